package bundle

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
)

// verifyGoldenFiles wants every golden whole and of the shape that its task
// says. Whether the model gives what they hold is found by who runs it.
func (b *Bundle) verifyGoldenFiles() error {
	for _, golden := range b.Manifest.Goldens {
		if b.Manifest.Task == TaskTensor {
			if _, _, err := b.TensorGolden(golden); err != nil {
				return err
			}
			continue
		}
		if _, err := os.Stat(b.Path(golden)); err != nil {
			return fmt.Errorf("golden picture: %w", err)
		}
		pixels, _, err := ReadUint8(b.Path(InputFile(golden)))
		if err != nil {
			return fmt.Errorf("golden pixels: %w", err)
		}
		if err := b.verifyPixels(golden, pixels); err != nil {
			return err
		}
		shape, values, err := ReadFloat32(b.Path(OutputFile(golden)))
		if err != nil {
			return fmt.Errorf("golden %s: %w", b.outputNoun(), err)
		}
		if err := b.verifyOutput(golden, pixels, shape, values); err != nil {
			return err
		}
	}
	return nil
}

func (b *Bundle) outputNoun() string {
	if b.Manifest.Task == TaskSuperResolution {
		return "answer"
	}
	return "scores"
}

func (b *Bundle) verifyPixels(golden string, shape []int) error {
	in := b.Manifest.Input
	if want := []int{in.Height, in.Width, in.Channels}; in.Width != 0 && !slices.Equal(shape, want) {
		return fmt.Errorf("%s has the shape %v, want [height, width, channels] = %v", InputFile(golden), shape, want)
	}
	if len(shape) != 3 || shape[0] < 1 || shape[1] < 1 || shape[2] != in.Channels {
		return fmt.Errorf("%s has the shape %v, want [height, width, channels] with %d channels", InputFile(golden), shape, in.Channels)
	}
	return nil
}

// verifyOutput looks at a golden whose pixels have the shape of their own file.
func (b *Bundle) verifyOutput(golden string, pixels, shape []int, values []float32) error {
	m := b.Manifest
	if m.Task == TaskSuperResolution {
		want := []int{pixels[2], pixels[0] * m.SuperResolution.Scale, pixels[1] * m.SuperResolution.Scale}
		if !slices.Equal(shape, want) {
			return fmt.Errorf("%s has the shape %v, want [channels, height*scale, width*scale] = %v", OutputFile(golden), shape, want)
		}
	} else if len(values) != len(m.Labels) {
		return fmt.Errorf("%s has %d scores, the bundle has %d labels", OutputFile(golden), len(values), len(m.Labels))
	}
	for _, v := range values {
		if !finite(float64(v)) {
			return fmt.Errorf("%s holds a value that is not a finite number", OutputFile(golden))
		}
	}
	return nil
}

// TensorGolden gives the files of a golden of the task tensor, as paths: its
// inputs and its outputs, in the graph's order, one of each at least.
func (b *Bundle) TensorGolden(stem string) (inputs, outputs []string, err error) {
	if inputs, err = b.arrays(stem, TensorInputFile); err != nil {
		return nil, nil, err
	}
	outputs, err = b.arrays(stem, TensorOutputFile)
	return inputs, outputs, err
}

// maxTensors bounds how many inputs or outputs a golden has.
const maxTensors = 1024

func (b *Bundle) arrays(stem string, name func(string, int) string) ([]string, error) {
	var files []string
	for i := range maxTensors {
		file := b.Path(name(stem, i))
		_, _, _, err := ReadArray(file)
		if errors.Is(err, fs.ErrNotExist) && i > 0 {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("golden %s: %w", stem, err)
		}
		files = append(files, file)
	}
	return files, nil
}
