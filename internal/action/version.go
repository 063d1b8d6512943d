package action

import (
	"regexp"
	"runtime/debug"
)

// release is the version of a module that was tagged, not of a commit between.
var release = regexp.MustCompile(`^v[0-9]+\.[0-9]+\.[0-9]+$`)

// BuildVersion is the release that the linker was told or `go install` was asked
// for, else the commit the program was built from, else devel.
func BuildVersion(linked string) string {
	if linked != "" {
		return linked
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "devel"
	}
	if release.MatchString(info.Main.Version) {
		return info.Main.Version
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return "devel-" + s.Value[:min(12, len(s.Value))]
		}
	}
	return "devel"
}
