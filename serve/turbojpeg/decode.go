//go:build turbojpeg

package turbojpeg

/*
#cgo LDFLAGS: -lturbojpeg
#include <stdio.h>
#include <string.h>
#include <turbojpeg.h>

// penstock_grey reads the size, where pixels is NULL, or the pixels, of which
// there are width x height without gaps. It returns 0, or -1 with what is wrong
// in text. Nothing of it lives on after the call.
static int penstock_grey(const unsigned char *data, unsigned long size, unsigned char *pixels,
                         int *width, int *height, char *text, size_t room) {
	int sampling = 0, colours = 0, failed = -1;
	tjhandle handle = tjInitDecompress();
	if (handle == NULL) {
		snprintf(text, room, "%s", tjGetErrorStr2(NULL));
		return -1;
	}
	if (pixels == NULL) {
		failed = tjDecompressHeader3(handle, data, size, width, height, &sampling, &colours);
		if (!failed && colours != TJCS_GRAY) {
			snprintf(text, room, "the JPEG is not grey");
			tjDestroy(handle);
			return -1;
		}
	} else {
		failed = tjDecompress2(handle, data, size, pixels, *width, 0, *height, TJPF_GRAY,
		                       TJFLAG_ACCURATEDCT | TJFLAG_STOPONWARNING | TJFLAG_LIMITSCANS);
	}
	if (failed)
		snprintf(text, room, "%s", tjGetErrorStr2(handle));
	tjDestroy(handle);
	return failed;
}
*/
import "C"

import (
	"errors"
	"image"
	"unsafe"
)

// Available tells whether libjpeg-turbo is built in.
func Available() bool { return true }

// decodeGrey decodes a JPEG of one component. The caller has held its size to
// limits.
func decodeGrey(data []byte) (*image.Gray, error) {
	if len(data) == 0 {
		return nil, errors.New("libjpeg-turbo: no bytes")
	}
	var width, height C.int
	if err := grey(data, nil, &width, &height); err != nil {
		return nil, err
	}
	if width < 1 || height < 1 {
		return nil, errors.New("libjpeg-turbo: the JPEG has no pixels")
	}
	img := image.NewGray(image.Rect(0, 0, int(width), int(height)))
	if err := grey(data, &img.Pix[0], &width, &height); err != nil {
		return nil, err
	}
	return img, nil
}

func grey(data []byte, pixels *uint8, width, height *C.int) error {
	var text [200]C.char
	failed := C.penstock_grey((*C.uchar)(unsafe.Pointer(&data[0])), C.ulong(len(data)), (*C.uchar)(unsafe.Pointer(pixels)),
		width, height, &text[0], C.size_t(len(text)))
	if failed != 0 {
		return errors.New("libjpeg-turbo: " + C.GoString(&text[0]))
	}
	return nil
}
