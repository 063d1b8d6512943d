//go:build turbojpeg

package turbojpeg

/*
#cgo LDFLAGS: -lturbojpeg
#cgo noescape tjDecompress2
#cgo nocallback tjDecompress2
#cgo noescape tjDecompressHeader3
#cgo nocallback tjDecompressHeader3
#include <turbojpeg.h>
*/
import "C"

import (
	"errors"
	"image"
	"runtime"
	"unsafe"
)

// Available tells whether libjpeg-turbo is built in.
func Available() bool { return true }

// spare are handles that are used again, of some KB each: at the end of a
// picture libjpeg frees what belongs to it, and no picture that is decoded row
// by row, as these are, takes more than some of its rows. What libjpeg does keep
// are the tables of the picture before, so only files that bring their own meet
// such a handle. One that has reported an error is not used again.
var spare = make(chan C.tjhandle, 16)

// decodeGrey decodes a JPEG of one component. The caller has held its size to
// limits.
func decodeGrey(data []byte) (*image.Gray, error) {
	if len(data) == 0 {
		return nil, errors.New("libjpeg-turbo: no bytes")
	}
	runtime.LockOSThread() // libjpeg-turbo keeps what went wrong by thread
	defer runtime.UnlockOSThread()
	f, whole := wholeFrame(data)
	if !whole {
		return decodeApart(data)
	}
	handle, err := take()
	if err != nil {
		return nil, err
	}
	img, err := pixels(handle, data, f.width, f.height)
	if err != nil {
		C.tjDestroy(handle)
		return nil, err
	}
	give(handle)
	return img, nil
}

// decodeApart decodes with a handle that has seen no other picture and will see
// none, and has libjpeg-turbo say what the picture's size is.
func decodeApart(data []byte) (*image.Gray, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	handle, err := open()
	if err != nil {
		return nil, err
	}
	defer C.tjDestroy(handle)
	var width, height, sampling, colours C.int
	if C.tjDecompressHeader3(handle, bytesOf(data), C.ulong(len(data)), &width, &height, &sampling, &colours) != 0 {
		return nil, failure(handle)
	}
	if colours != C.TJCS_GRAY {
		return nil, errors.New("libjpeg-turbo: the JPEG is not grey")
	}
	if width < 1 || height < 1 {
		return nil, errors.New("libjpeg-turbo: the JPEG has no pixels")
	}
	return pixels(handle, data, int(width), int(height))
}

// pixels decodes a picture of which the size is known: libjpeg-turbo would scale
// one of another size.
func pixels(handle C.tjhandle, data []byte, width, height int) (*image.Gray, error) {
	img := image.NewGray(image.Rect(0, 0, width, height))
	if C.tjDecompress2(handle, bytesOf(data), C.ulong(len(data)), bytesOf(img.Pix), C.int(width), C.int(img.Stride), C.int(height), C.TJPF_GRAY,
		C.TJFLAG_ACCURATEDCT|C.TJFLAG_STOPONWARNING|C.TJFLAG_LIMITSCANS) != 0 {
		return nil, failure(handle)
	}
	return img, nil
}

func bytesOf(data []byte) *C.uchar { return (*C.uchar)(unsafe.Pointer(&data[0])) }

func failure(handle C.tjhandle) error {
	return errors.New("libjpeg-turbo: " + C.GoString(C.tjGetErrorStr2(handle)))
}

func open() (C.tjhandle, error) {
	handle := C.tjInitDecompress()
	if handle == nil {
		return nil, failure(nil)
	}
	return handle, nil
}

// take gives a handle that was used before, or a new one.
func take() (C.tjhandle, error) {
	select {
	case handle := <-spare:
		return handle, nil
	default:
		return open()
	}
}

// give keeps a handle for the next picture, unless there are enough of them.
func give(handle C.tjhandle) {
	select {
	case spare <- handle:
	default:
		C.tjDestroy(handle)
	}
}
