package bundle

import "context"

// DigestOfSums lets tests forge sums whose digest is right.
var DigestOfSums = digestOf

// SumsOf gives the sums of a directory that Publish would refuse.
func SumsOf(dir string) ([]byte, error) {
	files, err := sumDir(dir)
	return formatSums(files), err
}

// InspectONNX gives the external locations that the walk finds.
func InspectONNX(data []byte) ([]string, error) {
	m, err := inspectONNX(data)
	return m.external, err
}

// PathIsSafe is what every location and every path is held to.
var PathIsSafe = pathIsSafe

// PruneBy is Prune whose last step, of what has been moved away, is remove.
func PruneBy(ctx context.Context, cacheDir string, keep int, remove func(dir string) error) ([]Removed, error) {
	return pruning{cacheDir, remove}.run(ctx, keep)
}
