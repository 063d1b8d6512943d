package oip

import (
	"encoding/binary"
	"math"
	"math/bits"
	"strconv"
	"unsafe"
)

// decimal is a JSON number as it is written: mantissa × 10^exponent.
type decimal struct {
	mantissa uint64 // holds the digits only where exact
	exponent int
	end      int // of its text
	negative bool
	integer  bool // neither point nor exponent
	exact    bool // at most 19 significant digits
}

// scanNumber reads the JSON number at text[at:]; ok tells whether one stands
// there. Eight digits at a time is the method of Lemire, "Quickly parsing
// eight digits" (2018).
func scanNumber(text []byte, at int) (d decimal, ok bool) {
	i := at
	if i < len(text) && text[i] == '-' {
		d.negative = true
		i++
	}
	first := i
	for i < len(text) && text[i]-'0' <= 9 {
		d.mantissa = d.mantissa*10 + uint64(text[i]-'0')
		i++
	}
	digits := i - first
	if digits == 0 || digits > 1 && text[first] == '0' {
		return d, false
	}
	d.integer = true
	if i < len(text) && text[i] == '.' {
		d.integer = false
		i++
		point := i
		for i+8 <= len(text) {
			v, n := eight(text[i:])
			d.mantissa = d.mantissa*wholePowers[n&15] + v
			if i += n; n < 8 {
				break
			}
		}
		for i < len(text) && text[i]-'0' <= 9 {
			d.mantissa = d.mantissa*10 + uint64(text[i]-'0')
			i++
		}
		if i == point {
			return d, false
		}
		d.exponent = point - i
		digits += i - point
	}
	d.exact = digits <= 19 || significant(text[first:i]) <= 19
	d.end = i
	if i < len(text) && text[i]|0x20 == 'e' {
		return d, d.scanExponent(text, i+1)
	}
	return d, true
}

// eight reads the digits at the front of eight characters without a branch for
// each: value and number of them. In x a digit is below 10, and the lowest bit
// of other is that of the first character that is none; digits that are missing
// of eight count as zeros in front.
func eight(text []byte) (value uint64, n int) {
	x := binary.LittleEndian.Uint64(text) ^ 0x3030303030303030
	other := (x + 0x7676767676767676 | x) & 0x8080808080808080
	n = bits.TrailingZeros64(other) / 8
	x = x << (64 - 8*n) & 0x0f0f0f0f0f0f0f0f * 2561 >> 8
	x = x & 0x00ff00ff00ff00ff * 6553601 >> 16
	return x & 0x0000ffff0000ffff * 42949672960001 >> 32, n
}

// fastFloat32 is readFloat32 of what programs write, [-]d.ddd with at most 18
// decimals, somewhere before the end of the text. Signs and lengths are random
// in tensors, and a branch that is guessed wrong costs as much as ten digits:
// so there is none on them, but whether they are a float64's or a float32's.
func fastFloat32(text []byte, at int, out []byte) (end int, ok bool) {
	if at+32 > len(text) {
		return 0, false
	}
	sign := 0
	if text[at] == '-' {
		sign = 1
	}
	whole := uint64(text[at+sign] - '0')
	if whole > 9 || text[at+sign+1] != '.' {
		return 0, false
	}
	at += sign + 2
	first, n := eight(text[at:])
	second, k := eight(text[at+n:]) // none, where the first were fewer than eight
	mantissa := (whole*wholePowers[n&15]+first)*wholePowers[k&15] + second
	decimals := n + k
	if k == 8 {
		third, j := eight(text[at+decimals:])
		mantissa = mantissa*wholePowers[j&15] + third
		decimals += j
	}
	at += decimals
	if c := text[at]; n == 0 || decimals > 18 || c != ',' && c != ']' {
		return 0, false
	}
	f := float64(mantissa) / powersOfTen[decimals]
	if !roundsAlike(f) {
		return 0, false
	}
	binary.LittleEndian.PutUint32(out, math.Float32bits(float32(f))|uint32(sign)<<31)
	return at, true
}

var wholePowers = [16]uint64{1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8}

// scanExponent reads what follows the e.
func (d *decimal) scanExponent(text []byte, i int) bool {
	d.integer = false
	negative := false
	if i < len(text) && (text[i] == '+' || text[i] == '-') {
		negative = text[i] == '-'
		i++
	}
	start, e := i, 0
	for i < len(text) && text[i]-'0' <= 9 {
		if e < 100_000 { // beyond every float, and far from overflow
			e = e*10 + int(text[i]-'0')
		}
		i++
	}
	if negative {
		e = -e
	}
	d.exponent += e
	d.end = i
	return i > start
}

// significant counts the digits from the first that is not 0.
func significant(text []byte) int {
	n := 0
	for _, c := range text {
		if c != '.' && (n > 0 || c != '0') {
			n++
		}
	}
	return n
}

var powersOfTen = [...]float64{
	1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12,
	1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
}

// scaled is the number as a float64 with an error below two units in its last
// place; exactly rounded where the mantissa has at most 53 bits (Clinger, "How
// to read floating point numbers accurately", 1990).
func (d decimal) scaled() (f float64, ok bool) {
	if !d.exact || d.exponent < -22 || d.exponent > 22 {
		return 0, false
	}
	f = float64(d.mantissa)
	if d.exponent < 0 {
		f /= powersOfTen[-d.exponent]
	} else {
		f *= powersOfTen[d.exponent]
	}
	if d.negative {
		f = -f
	}
	return f, true
}

// roundsAlike tells whether a float64 whose error is below four units in its
// last place rounds to the same float32 as the number that it stands for: it is
// not that near to the middle between two, and neither tiny nor huge.
func roundsAlike(f float64) bool {
	const middle, guard = 1 << 28, 4
	low := math.Float64bits(f) & (1<<29 - 1)
	size := math.Abs(f)
	return low-(middle-guard) > 2*guard && size >= 0x1p-126 && size < math.MaxFloat32
}

// float32 is the float32 nearest to the number whose text begins at at; false
// where it is out of range.
func (d decimal) float32(text []byte, at int) (float32, bool) {
	if f, ok := d.scaled(); ok && (roundsAlike(f) || d.mantissa == 0) {
		return float32(f), true
	}
	f, err := strconv.ParseFloat(view(text[at:d.end]), 32)
	return float32(f), err == nil
}

// float64 is the float64 nearest to the number whose text begins at at; false
// where it is out of range.
func (d decimal) float64(text []byte, at int) (float64, bool) {
	if f, ok := d.scaled(); ok && d.mantissa < 1<<53 {
		return f, true
	}
	f, err := strconv.ParseFloat(view(text[at:d.end]), 64)
	return f, err == nil
}

// signed is the integer, if it is one of width bits.
func (d decimal) signed(text []byte, at, width int) (int64, bool) {
	most := uint64(1)<<(width-1) - 1
	if d.negative {
		most++
	}
	v, ok := d.magnitude(text, at)
	if !ok || v > most {
		return 0, false
	}
	if d.negative {
		return -int64(v), true
	}
	return int64(v), true
}

// unsigned is the integer, if it is one of width bits.
func (d decimal) unsigned(text []byte, at, width int) (uint64, bool) {
	v, ok := d.magnitude(text, at)
	return v, ok && v <= math.MaxUint64>>(64-width) && (!d.negative || v == 0)
}

// magnitude is the integer without its sign.
func (d decimal) magnitude(text []byte, at int) (uint64, bool) {
	if !d.integer || d.exact {
		return d.mantissa, d.integer
	}
	if d.negative {
		at++
	}
	v, err := strconv.ParseUint(view(text[at:d.end]), 10, 64)
	return v, err == nil
}

// view is the bytes as a string without a copy, for callees that keep nothing.
func view(text []byte) string { return unsafe.String(unsafe.SliceData(text), len(text)) }
