//go:build !turbojpeg

package turbojpeg

import "image"

// Available tells whether libjpeg-turbo is built in.
func Available() bool { return false }

func decodeGrey([]byte) (*image.Gray, error) { return nil, ErrAbsent }
