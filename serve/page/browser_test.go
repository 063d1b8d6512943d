package page_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/dom"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	cdppage "github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// browser is headless Chromium with the page open, used by keyboard only.
type browser struct {
	t        *testing.T
	ctx      context.Context
	url      string
	refusals int                    // answers with 4xx that the test wants
	chooser  chan cdp.BackendNodeID // file dialogs as they open

	mu      sync.Mutex
	said    []string // console errors, policy violations, exceptions
	outside []string // requests to other machines
	refused int
}

// term bounds a test in the browser.
const term = 60 * time.Second

// open waits for the models too.
func open(t *testing.T, url string) *browser {
	t.Helper()
	b := visit(t, url)
	b.wait("the models", models)
	return b
}

const models = `document.querySelectorAll("#model option").length === 2 && document.querySelector("#digest").textContent !== ""`

func visit(t *testing.T, url string) *browser {
	t.Helper()
	program, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatalf("%v: run make setup", err)
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(program), chromedp.NoSandbox, // tests may run as root
		chromedp.UserDataDir(t.TempDir()), chromedp.WindowSize(1280, 900))
	ctx, cancel := context.WithTimeout(context.Background(), term)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewExecAllocator(ctx, options...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	b := &browser{t: t, ctx: ctx, url: url, chooser: make(chan cdp.BackendNodeID, 1)}
	if err := chromedp.Listen(ctx, b.hear); err != nil {
		t.Fatalf("start Chromium: %v", err)
	}
	call(b, network.Enable, network.EnableParams{})
	call(b, log.Enable, cdp.Empty{})
	call(b, cdppage.SetInterceptFileChooserDialog, cdppage.SetInterceptFileChooserDialogParams{Enabled: true})
	b.do(chromedp.Navigate(url))
	return b
}

// call is one command of the DevTools protocol.
func call[P, R any](b *browser, command cdp.Command[P, R], params P) {
	b.t.Helper()
	if _, err := chromedp.Call(b.ctx, command, params); err != nil {
		b.t.Fatal(err)
	}
}

// hear gathers what a page that is in order never says.
func (b *browser) hear(event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e := event.(type) {
	case *cdppage.EventFileChooserOpened:
		b.chooser <- e.BackendNodeID
	case *runtime.EventExceptionThrown:
		b.said = append(b.said, "exception: "+e.ExceptionDetails.Text)
	case *runtime.EventConsoleAPICalled:
		b.said = append(b.said, fmt.Sprintf("console.%s: %v", e.Type, e.Args))
	case *log.EventEntryAdded:
		if e.Entry.Source == log.EntrySourceNetwork && strings.Contains(e.Entry.Text, "status of 4") {
			b.refused++
			return
		}
		b.said = append(b.said, fmt.Sprintf("%s %s: %s", e.Entry.Source, e.Entry.Level, e.Entry.Text))
	case *network.EventRequestWillBeSent:
		if !strings.HasPrefix(e.Request.URL, b.url+"/") && !strings.HasPrefix(e.Request.URL, "blob:"+b.url+"/") {
			b.outside = append(b.outside, e.Request.URL)
		}
	}
}

// clean wants nothing said, nobody else asked, and no refusal too many.
func (b *browser) clean() {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.said) > 0 || len(b.outside) > 0 || b.refused != b.refusals {
		b.t.Errorf("the browser says %q, asked %q, and was refused %d times, want %d", b.said, b.outside, b.refused, b.refusals)
	}
}

func (b *browser) do(actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	if err := chromedp.Do(b.ctx, actions...); err != nil {
		b.t.Fatal(err)
	}
}

// wait waits until an expression is true.
func (b *browser) wait(what, is string) {
	b.t.Helper()
	_, err := chromedp.Run(b.ctx, chromedp.Poll[bool](is, chromedp.WithPollingTimeout(20*time.Second)))
	if err != nil {
		b.t.Fatalf("waiting for %s: %v; the page says %q and %q; the browser %q", what, err,
			b.text(`document.querySelector("#status").textContent`), b.text(`document.querySelector("#error").textContent`), b.said)
	}
}

func (b *browser) text(expression string) string {
	b.t.Helper()
	text, err := chromedp.Run(b.ctx, chromedp.Evaluate[string](expression))
	if err != nil {
		b.t.Fatalf("%s: %v", expression, err)
	}
	return text
}

// focus presses Tab until the element has the focus, and wants that to be seen.
func (b *browser) focus(id string) {
	b.t.Helper()
	for range 25 {
		b.do(chromedp.KeyEvent(kb.Tab))
		if b.text(`document.activeElement.id`) != id {
			continue
		}
		if outline := b.text(`getComputedStyle(document.activeElement).outlineStyle`); outline == "none" {
			b.t.Errorf("the focus on #%s is not seen", id)
		}
		return
	}
	b.t.Fatalf("Tab does not reach #%s", id)
}

var keys = map[string]string{"ArrowLeft": kb.ArrowLeft, "ArrowRight": kb.ArrowRight, "ArrowDown": kb.ArrowDown, "Enter": kb.Enter}

func (b *browser) press(key string, times int) {
	b.t.Helper()
	for range times {
		b.do(chromedp.KeyEvent(keys[key]))
	}
}

// choose opens the file dialog by keyboard and picks a file in it.
func (b *browser) choose(path string) {
	b.t.Helper()
	b.focus("file")
	b.press("Enter", 1)
	select {
	case node := <-b.chooser:
		call(b, dom.SetFileInputFiles, dom.SetFileInputFilesParams{Files: []string{path}, BackendNodeID: node})
	case <-b.ctx.Done():
		b.t.Fatal("the file dialog did not open")
	}
}

// drop lets a file fall onto the page.
func (b *browser) drop(data []byte) {
	b.t.Helper()
	b.text(`(() => {
		const held = new DataTransfer();
		const bytes = Uint8Array.from(atob("` + base64.StdEncoding.EncodeToString(data) + `"), (c) => c.charCodeAt(0));
		held.items.add(new File([bytes], "dropped.png"));
		document.querySelector("#drop").dispatchEvent(new DragEvent("drop", { dataTransfer: held, bubbles: true, cancelable: true }));
		return "";
	})()`)
}

// shot keeps pictures of the page, light and dark, for people (go test
// -artifacts).
func (b *browser) shot(name string) {
	b.t.Helper()
	for _, scheme := range []string{"light", "dark"} {
		call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
		})
		data, err := chromedp.Run(b.ctx, chromedp.FullScreenshot(100))
		if err != nil {
			b.t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(b.t.ArtifactDir(), name+"-"+scheme+".png"), data, 0o644); err != nil {
			b.t.Fatal(err)
		}
	}
}
