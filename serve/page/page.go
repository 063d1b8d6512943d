// Package page owns the small page at /: an image in, scores and heat maps
// out. Plain HTML, CSS and script, files that are part of the program;
// it asks no other machine for anything and keeps nothing.
//
// Its Content-Security-Policy allows exactly what it uses: its own style and
// script, icon, calls to its own server, and pictures that the browser holds already
// (blob:). Nothing stands inline.
package page

import (
	"embed"
	"net/http"
)

//go:embed index.html page.css page.js icon.svg
var files embed.FS

// Policy is the Content-Security-Policy of the page.
const Policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// File is one of the page's.
type File struct{ Path, name, kind string }

// Files are all of them.
var Files = []File{
	{"/{$}", "index.html", "text/html; charset=utf-8"},
	{"/page.css", "page.css", "text/css; charset=utf-8"},
	{"/page.js", "page.js", "text/javascript; charset=utf-8"},
	{"/icon.svg", "icon.svg", "image/svg+xml"},
}

// ServeHTTP answers the file.
func (f File) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	data, err := files.ReadFile(f.name)
	if err != nil { // the program was built without its own files
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	h := w.Header()
	h.Set("Content-Type", f.kind)
	h.Set("Content-Security-Policy", Policy)
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cache-Control", "no-cache") // another version of the program, another page
	// An error here means that the client is gone: there is nobody to tell.
	_, _ = w.Write(data)
}
