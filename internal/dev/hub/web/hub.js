"use strict";

// Draws Mermaid's diagrams where the library is there; else they stay code.
async function draw(root) {
  if (!window.mermaid) return;
  for (const code of root.querySelectorAll("code.language-mermaid")) {
    try {
      const { svg } = await window.mermaid.render("diagram-" + Math.random().toString(36).slice(2), code.textContent);
      const box = document.createElement("div");
      box.className = "diagram";
      box.innerHTML = svg; // Mermaid's own, made with securityLevel strict
      code.parentElement.replaceWith(box);
    } catch (problem) {
      code.parentElement.title = String(problem);
    }
  }
}

// Takes the page's newer state while something runs; what is open stays open.
async function follow() {
  const main = document.getElementById("main");
  if (main.dataset.live !== "true") return;
  const answer = await fetch(location.pathname, { cache: "no-store" });
  if (answer.ok) {
    const next = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("main");
    for (const old of main.querySelectorAll("details[id]")) {
      const same = next.querySelector("#" + CSS.escape(old.id));
      if (same && old.dataset.touched) { same.open = old.open; same.dataset.touched = "true"; }
    }
    await draw(next);
    const ends = [...main.querySelectorAll("details[open] pre")].map((pre) => [pre.parentElement.id, pre.scrollTop + pre.clientHeight + 8 >= pre.scrollHeight, pre.scrollTop]);
    main.replaceChildren(...next.childNodes);
    main.dataset.live = next.dataset.live;
    for (const [id, atEnd, top] of ends) {
      const pre = main.querySelector("#" + CSS.escape(id) + " pre");
      if (pre) pre.scrollTop = atEnd ? pre.scrollHeight : top;
    }
  }
  setTimeout(() => follow().catch(again), 1000);
}

function again() { setTimeout(() => follow().catch(again), 3000); }

document.addEventListener("click", (event) => {
  const summary = event.target.closest("summary");
  if (summary) summary.parentElement.dataset.touched = "true";
});

document.addEventListener("DOMContentLoaded", async () => {
  if (window.mermaid) {
    const dark = matchMedia("(prefers-color-scheme: dark)").matches;
    window.mermaid.initialize({ startOnLoad: false, securityLevel: "strict", theme: dark ? "dark" : "default" });
  }
  await draw(document);
  await follow().catch(again);
});
