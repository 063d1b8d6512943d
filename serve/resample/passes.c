//go:build turbojpeg

// Both passes are one thing: LANES pixels that take the same weights are made
// side by side. Down, they are neighbours of a row. Across, they are those of a
// column: LANES rows of the picture are turned, so that its columns lie in rows,
// and what is made of them is turned back.
//
// Loops over lanes have a length that the compiler knows and do nothing else, so
// that it makes vector instructions of them, of whatever width there are.

#include <string.h>

#include "passes.h"

#if defined(__x86_64__) && defined(__GLIBC__) && !defined(__clang__) && __GNUC__ >= 12 && !defined(__SANITIZE_ADDRESS__)
#define CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define CLONES
#endif
#define INLINE static inline __attribute__((always_inline))

enum { SIDE = 16, PRECISION = 22, HALF = 1 << (PRECISION - 1) };

struct picture {
	const uint8_t *pixels;
	size_t stride;
	int32_t width, height;
};

struct taps {
	const int32_t *start, *end, *weights;
	int32_t count, most;
};

INLINE int32_t least(int32_t a, int32_t b) { return a < b ? a : b; }

// turn writes the rows of a square of SIDE x SIDE pixels as columns. Rows are
// shuffled into those half a square further on, which four times makes columns.
INLINE void turn(uint8_t *dst, size_t dst_stride, const uint8_t *src, size_t src_stride) {
	typedef uint8_t line __attribute__((vector_size(SIDE)));
	const line low = {0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23};
	const line high = {8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};
	line lines[SIDE], shuffled[SIDE];
	for (int i = 0; i < SIDE; i++)
		memcpy(&lines[i], src + i * src_stride, SIDE);
#pragma GCC unroll 4
	for (int round = 0; round < 4; round++) {
#pragma GCC unroll 8
		for (int i = 0; i < SIDE / 2; i++) {
			shuffled[2 * i] = __builtin_shuffle(lines[i], lines[i + SIDE / 2], low);
			shuffled[2 * i + 1] = __builtin_shuffle(lines[i], lines[i + SIDE / 2], high);
		}
#pragma GCC unroll 16
		for (int i = 0; i < SIDE; i++)
			lines[i] = shuffled[i];
	}
	for (int i = 0; i < SIDE; i++)
		memcpy(dst + i * dst_stride, &lines[i], SIDE);
}

// turn_in turns the square at x, y of the picture, or what of it there is. What
// stands in the place of the rest goes into no pixel of the result.
INLINE void turn_in(uint8_t *dst, const struct picture *p, int32_t x, int32_t y) {
	int32_t across = least(SIDE, p->width - x), down = least(SIDE, p->height - y);
	const uint8_t *src = p->pixels + (size_t)y * p->stride + x;
	if (across == SIDE && down == SIDE) {
		turn(dst, LANES, src, p->stride);
		return;
	}
	uint8_t square[SIDE * SIDE] = {0};
	for (int32_t i = 0; i < down; i++)
		memcpy(square + i * SIDE, src + i * p->stride, across);
	turn(dst, LANES, square, SIDE);
}

// add adds n weighted lines of lanes; n is known to the compiler. The sum of all
// fits into 32 bits with its sign, what is on the way there need not.
INLINE void add(uint32_t *restrict sums, const uint8_t *restrict lines, size_t stride, const int32_t *restrict weights, int n) {
	for (int lane = 0; lane < LANES; lane++) {
		uint32_t sum = sums[lane];
#pragma GCC unroll 4
		for (int i = 0; i < n; i++)
			sum += (uint32_t)weights[i] * lines[i * stride + lane];
		sums[lane] = sum;
	}
}

// weigh makes LANES pixels of n weighted lines.
INLINE void weigh(uint8_t *restrict dst, const uint8_t *restrict lines, size_t stride, const int32_t *restrict weights, int32_t n) {
	uint32_t sums[LANES];
	for (int lane = 0; lane < LANES; lane++)
		sums[lane] = HALF;
	for (; n >= 4; n -= 4, lines += 4 * stride, weights += 4)
		add(sums, lines, stride, weights, 4);
	if (n >= 2) {
		add(sums, lines, stride, weights, 2);
		n -= 2, lines += 2 * stride, weights += 2;
	}
	if (n == 1)
		add(sums, lines, stride, weights, 1);
	for (int lane = 0; lane < LANES; lane++) {
		int32_t level = (int32_t)sums[lane] >> PRECISION;
		level = level < 0 ? 0 : level;
		dst[lane] = level > 255 ? 255 : level;
	}
}

// across makes LANES rows of the first pass, those from y on. Of the columns it
// keeps the last ones only, which further pixels may take.
INLINE void across(uint8_t *rows, size_t row, const struct picture *p, int32_t y, const struct taps *t, uint8_t *columns) {
	int32_t height = least(LANES, p->height - y);
	int32_t kept = 0, ready = 0; // the columns that are there: from kept up to ready
	int32_t first = 0;
	uint8_t made[SIDE * LANES] = {0};
	for (int32_t x = 0; x < t->count; x += SIDE) {
		for (int32_t i = 0; i < least(SIDE, t->count - x); i++) {
			int32_t start = t->start[x + i], n = t->end[x + i] - first;
			while (ready < start + n) {
				int32_t keep = least(t->most, ready - kept);
				memmove(columns, columns + (size_t)(ready - kept - keep) * LANES, (size_t)keep * LANES);
				kept = ready - keep;
				for (int32_t end = least(ready + LANES, p->width); ready < end; ready = least(ready + SIDE, end))
					for (int32_t lane = 0; lane < height; lane += SIDE)
						turn_in(columns + (size_t)(ready - kept) * LANES + lane, p, ready, y + lane);
			}
			weigh(made + i * LANES, columns + (size_t)(start - kept) * LANES, LANES, t->weights + first, n);
			first += n;
		}
		for (int32_t lane = 0; lane < height; lane += SIDE)
			turn(rows + lane * row + x, row, made + lane, LANES);
	}
}

// passes keeps the last rows of the first pass only, as across keeps columns.
CLONES static void passes(uint8_t *dst, const struct picture *p, const struct taps *ta, const struct taps *td, uint8_t *columns, uint8_t *rows) {
	size_t row = ((size_t)ta->count + LANES - 1) / LANES * LANES;
	int32_t kept = 0, ready = 0; // the rows that are there: from kept up to ready
	int32_t first = 0;
	for (int32_t y = 0; y < td->count; y++) {
		int32_t start = td->start[y], n = td->end[y] - first;
		while (ready < start + n) {
			int32_t keep = least(td->most, ready - kept);
			memmove(rows, rows + (ready - kept - keep) * row, keep * row);
			kept = ready - keep;
			across(rows + keep * row, row, p, ready, ta, columns);
			ready = least(ready + LANES, p->height);
		}
		const uint8_t *from = rows + (start - kept) * row;
		for (int32_t x = 0; x < ta->count; x += LANES) {
			uint8_t made[LANES];
			weigh(made, from + x, row, td->weights + first, n);
			memcpy(dst + x, made, least(LANES, ta->count - x));
		}
		dst += ta->count;
		first += n;
	}
}

void penstock_passes(uint8_t *dst, const uint8_t *src, size_t stride, int32_t width, int32_t height,
                     const int32_t *across_start, const int32_t *across_end, const int32_t *across_weights,
                     int32_t across_count, int32_t across_most,
                     const int32_t *down_start, const int32_t *down_end, const int32_t *down_weights,
                     int32_t down_count, int32_t down_most,
                     uint8_t *columns, uint8_t *rows) {
	struct picture p = {src, stride, width, height};
	struct taps ta = {across_start, across_end, across_weights, across_count, across_most};
	struct taps td = {down_start, down_end, down_weights, down_count, down_most};
	passes(dst, &p, &ta, &td, columns, rows);
}
