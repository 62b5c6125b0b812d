/* [rows][width] -> [width][rows] of 4-byte or 2-byte elements, in square blocks held in registers. */
#include <stdint.h>

#define EXPORT __attribute__((visibility("default")))
#define WORTH 65536    /* elements below which a second thread costs more than it brings */
#define STRIP 32       /* columns taken at a time: the cache lines they are written to stay near */

typedef uint32_t four __attribute__((vector_size(16)));
typedef uint32_t loose4 __attribute__((vector_size(16), aligned(4), may_alias));
typedef uint16_t eight __attribute__((vector_size(16)));
typedef uint16_t loose8 __attribute__((vector_size(16), aligned(2), may_alias));
#ifdef __clang__
#define SHUFFLE(type, a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(type, a, b, ...) __builtin_shuffle(a, b, (type){__VA_ARGS__})
#endif

static inline void block4(const uint32_t *from, int64_t width, uint32_t *to, int64_t rows) {
    four a[4], b[4];
    for (int i = 0; i < 4; i++) a[i] = *(const loose4 *)(from + i * width);
    for (int i = 0; i < 2; i++) {
        b[i] = SHUFFLE(four, a[i], a[i + 2], 0, 4, 1, 5);
        b[i + 2] = SHUFFLE(four, a[i], a[i + 2], 2, 6, 3, 7);
    }
    for (int i = 0; i < 4; i += 2) {
        *(loose4 *)(to + i * rows) = SHUFFLE(four, b[i], b[i + 1], 0, 4, 1, 5);
        *(loose4 *)(to + (i + 1) * rows) = SHUFFLE(four, b[i], b[i + 1], 2, 6, 3, 7);
    }
}

/* Three rounds of interleaving row i with row i + 4. */
static inline void block8(const uint16_t *from, int64_t width, uint16_t *to, int64_t rows) {
    eight a[8], b[8];
    for (int i = 0; i < 8; i++) a[i] = *(const loose8 *)(from + i * width);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 4; i++) {
            b[2 * i] = SHUFFLE(eight, a[i], a[i + 4], 0, 8, 1, 9, 2, 10, 3, 11);
            b[2 * i + 1] = SHUFFLE(eight, a[i], a[i + 4], 4, 12, 5, 13, 6, 14, 7, 15);
        }
        for (int i = 0; i < 8; i++) a[i] = b[i];
    }
    for (int i = 0; i < 8; i++) *(loose8 *)(to + i * rows) = a[i];
}

#define TRANSPOSE(name, type, side, block)                                                             \
    EXPORT void name(const type *from, int64_t rows, int64_t width, type *to, int threads) {           \
        const int64_t whole = rows - rows % side;                                                      \
        _Pragma("omp parallel for schedule(static) num_threads(rows *width < WORTH ? 1 : threads)")    \
        for (int64_t left = 0; left < width; left += STRIP) {                                          \
            const int64_t end = left + STRIP < width ? left + STRIP : width;                           \
            for (int64_t r = 0; r < rows; r += r < whole ? side : 1) {                                 \
                const int64_t high = r < whole ? side : 1;                                             \
                int64_t c = left;                                                                      \
                for (; r < whole && c + side <= end; c += side)                                        \
                    block(from + r * width + c, width, to + c * rows + r, rows);                       \
                for (; c < end; c++)                                                                   \
                    for (int64_t i = r; i < r + high; i++) to[c * rows + i] = from[i * width + c];     \
            }                                                                                          \
        }                                                                                              \
    }

TRANSPOSE(regrow_transpose4, uint32_t, 4, block4)
TRANSPOSE(regrow_transpose2, uint16_t, 8, block8)
