package imaging

// Two pixels are weighted by one multiplication: one of them in the lower half
// of 64 bits, the other in the upper. A sum of weighted pixels fits into 32 bits
// with its sign (precision leaves 2 bits for overshoot), so the lower half of a
// sum of such products is the lower sum, and what is left is the upper one.

// half is what is added before rounding down.
const half = 1 << (precision - 1)

// pack puts the bytes of a into the lower halves and those of b into the upper.
func pack(dst []uint64, a, b []uint8) {
	a, b = a[:len(dst)], b[:len(dst)]
	for i := range dst {
		dst[i] = uint64(a[i]) | uint64(b[i])<<32
	}
}

// unpack takes a sum apart and rounds both to 8 bits.
func unpack(sum uint64) (a, b uint8) {
	low := int32(sum)
	high := int32((sum - uint64(int64(low))) >> 32)
	return clip(low), clip(high)
}

// clip rounds a sum that half was added to.
func clip(sum int32) uint8 {
	v := sum >> precision
	if uint32(v) > 255 {
		return uint8(^(v >> 31)) // 0 below, 255 above
	}
	return uint8(v)
}

const bothHalves = half | half<<32

// across1 makes two rows of one channel of the packed rows.
func across1(a, b []uint8, packed []uint64, t *Taps) {
	first := int32(0)
	for x, end := range t.End {
		weights := t.Weights[first:end]
		src := packed[t.Start[x]:][:len(weights)]
		sum := uint64(bothHalves)
		for i, w := range weights {
			sum += src[i] * uint64(int64(w))
		}
		a[x], b[x] = unpack(sum)
		first = end
	}
}

// across3 is across1 for three channels.
func across3(a, b []uint8, packed []uint64, t *Taps) {
	first := int32(0)
	for x, end := range t.End {
		weights := t.Weights[first:end]
		src := packed[3*t.Start[x]:]
		red, green, blue := uint64(bothHalves), uint64(bothHalves), uint64(bothHalves)
		for i, w := range weights {
			k, p := uint64(int64(w)), src[3*i:3*i+3:3*i+3]
			red += p[0] * k
			green += p[1] * k
			blue += p[2] * k
		}
		toA, toB := a[3*x:3*x+3:3*x+3], b[3*x:3*x+3:3*x+3]
		toA[0], toB[0] = unpack(red)
		toA[1], toB[1] = unpack(green)
		toA[2], toB[2] = unpack(blue)
		first = end
	}
}

// column makes a row of the result of the rows from first on.
func (s *scratch) column(dst []uint8, first int, weights []int32) {
	if len(weights) == 1 && weights[0] == 1<<precision {
		copy(dst, s.row(first))
		return
	}
	sums := s.sums[:len(dst)]
	for i := range sums {
		sums[i] = half
	}
	for i, w := range weights {
		row := s.row(first + i)[:len(sums)]
		for x, v := range row {
			sums[x] += w * int32(v)
		}
	}
	for x, v := range sums {
		dst[x] = clip(v)
	}
}
