package explain

import (
	"bytes"
	"fmt"
	"image"
	"image/png"
	"math"

	"golang.org/x/image/draw"
)

// MaxSide is the greatest width and height of an overlay in pixels. Larger
// pictures are made smaller.
const MaxSide = 1024

// Overlay lays a map over the upright picture and gives a PNG, at most MaxSide
// pixels wide and high. The map is enlarged bilinearly, the middles of its
// corner cells lying half a cell inside the picture, but for its Shift. Colours go from the least
// evidence (violet, nearly transparent) to the map's own peak (yellow), or to
// what counts as full evidence where the peak does not reach it: weak evidence
// looks weak. Where there is none the picture is as it was.
func Overlay(picture image.Image, m Map) ([]byte, error) {
	if m.Width < 1 || m.Height < 1 || len(m.Evidence) != m.Width*m.Height {
		return nil, fmt.Errorf("a heat map of %d x %d cells with %d values", m.Width, m.Height, len(m.Evidence))
	}
	out, err := bounded(picture)
	if err != nil {
		return nil, err
	}
	if peak := m.Peak(); peak > 0 {
		blend(out, m, 1/max(peak, m.full))
	}
	var data bytes.Buffer
	// Overlays are made while somebody waits.
	if err := (&png.Encoder{CompressionLevel: png.BestSpeed}).Encode(&data, out); err != nil {
		return nil, fmt.Errorf("encode the overlay: %w", err)
	}
	return data.Bytes(), nil
}

// bounded copies the picture, made smaller where a side exceeds MaxSide.
func bounded(picture image.Image) (*image.RGBA, error) {
	b := picture.Bounds()
	if b.Empty() {
		return nil, fmt.Errorf("a picture of %d x %d pixels", b.Dx(), b.Dy())
	}
	w, h := b.Dx(), b.Dy()
	if long := max(w, h); long > MaxSide {
		w, h = max(1, w*MaxSide/long), max(1, h*MaxSide/long)
	}
	out := image.NewRGBA(image.Rect(0, 0, w, h))
	if w == b.Dx() && h == b.Dy() {
		draw.Draw(out, out.Rect, picture, b.Min, draw.Src)
		return out, nil
	}
	draw.BiLinear.Scale(out, out.Rect, picture, b, draw.Src, nil)
	return out, nil
}

// between is where a pixel lies between two cells of a map's row or column.
type between struct {
	a, b   int
	weight float32 // of b
}

// spread places n pixels over so many cells, both with their middles, the cells
// moved by shift.
func spread(n, cells int, shift float64) []between {
	at := make([]between, n)
	for i := range at {
		x := (float64(i)+0.5)*float64(cells)/float64(n) - 0.5 - shift
		x = min(max(x, 0), float64(cells-1))
		a := int(x)
		at[i] = between{a, min(a+1, cells-1), float32(x - float64(a))}
	}
	return at
}

func blend(out *image.RGBA, m Map, scale float32) {
	columns, rows := spread(out.Rect.Dx(), m.Width, m.Shift[1]), spread(out.Rect.Dy(), m.Height, m.Shift[0])
	for y, r := range rows {
		top, bottom := m.Evidence[r.a*m.Width:][:m.Width], m.Evidence[r.b*m.Width:][:m.Width]
		line := out.Pix[y*out.Stride:]
		for x, c := range columns {
			above := top[c.a] + (top[c.b]-top[c.a])*c.weight
			below := bottom[c.a] + (bottom[c.b]-bottom[c.a])*c.weight
			level := int((above+(below-above)*r.weight)*scale*255 + 0.5)
			tint := ramp[min(max(level, 0), 255)]
			for k := range 3 {
				line[4*x+k] = uint8((int(line[4*x+k])*(256-tint.opacity) + int(tint.colour[k])*tint.opacity) >> 8)
			}
		}
	}
}

// tint is a colour that is laid over a pixel; opacity goes from 0 to 256.
type tint struct {
	colour  [3]uint8
	opacity int
}

// ramp is the colour of each level of evidence. Lightness rises and hue turns
// steadily in OKLab (Ottosson, 2020), so that equal steps look equal and order
// holds without colour vision; the chroma sets it off from grey X-rays.
var ramp = func() (colours [256]tint) {
	for i := range colours {
		v := float64(i) / 255
		hue := (310 + 145*v) / 180 * math.Pi // violet, red, orange, yellow
		colours[i].colour = srgb(0.50+0.40*v, 0.19, hue)
		rise := min(1, v/0.6)
		colours[i].opacity = int(256 * 0.60 * rise * rise * (3 - 2*rise))
	}
	return colours
}()

// srgb is a colour of OKLab given by lightness, chroma and hue (in radians);
// what no screen can show is cut off.
func srgb(lightness, chroma, hue float64) (rgb [3]uint8) {
	a, b := chroma*math.Cos(hue), chroma*math.Sin(hue)
	l := math.Pow(lightness+0.3963377774*a+0.2158037573*b, 3)
	m := math.Pow(lightness-0.1055613458*a-0.0638541728*b, 3)
	s := math.Pow(lightness-0.0894841775*a-1.2914855480*b, 3)
	for k, linear := range []float64{
		4.0767416621*l - 3.3077115913*m + 0.2309699292*s,
		-1.2684380046*l + 2.6097574011*m - 0.3413193965*s,
		-0.0041960863*l - 0.7034186147*m + 1.7076147010*s,
	} {
		v := 12.92 * linear
		if linear > 0.0031308 {
			v = 1.055*math.Pow(linear, 1/2.4) - 0.055
		}
		rgb[k] = uint8(math.Round(255 * min(max(v, 0), 1)))
	}
	return rgb
}
