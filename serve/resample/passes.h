#include <stddef.h>
#include <stdint.h>

// The pixels that are made side by side.
enum { LANES = 64 };

// penstock_passes resizes a picture of one channel; resample.go says what the
// slices hold. columns are LANES*(LANES+across_most) bytes to work in, rows are
// (LANES+down_most) times across_count rounded up to LANES.
void penstock_passes(uint8_t *dst, const uint8_t *src, size_t stride, int32_t width, int32_t height,
                     const int32_t *across_start, const int32_t *across_end, const int32_t *across_weights,
                     int32_t across_count, int32_t across_most,
                     const int32_t *down_start, const int32_t *down_end, const int32_t *down_weights,
                     int32_t down_count, int32_t down_most,
                     uint8_t *columns, uint8_t *rows);
