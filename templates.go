// Package penstock holds the files that `penstock init` lays into a repository:
// the project's own workflows and its example's trainer. They are one source
// with what runs here, so that an adopter gets what is tried.
package penstock

import "embed"

// Templates has the files by their path in this repository.
//
//go:embed .github/actionlint.yaml .github/workflows/*.yml
//go:embed examples/xray/*.py examples/xray/check
var Templates embed.FS
