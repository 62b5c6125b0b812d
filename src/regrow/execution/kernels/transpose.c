/* Transposition, in square blocks held in registers. */
#include "kernels.h"

#define EXPORT __attribute__((visibility("default")))
#define WORTH 65536    /* elements below which a second thread costs more than it brings */
#define STRIP 32       /* elements along which the cache lines of the other side stay near */

typedef uint32_t four __attribute__((vector_size(16)));
typedef uint32_t loose4 __attribute__((vector_size(16), aligned(4), may_alias));
typedef uint16_t eight __attribute__((vector_size(16)));
typedef uint16_t loose8 __attribute__((vector_size(16), aligned(2), may_alias));
#ifdef __clang__
#define SHUFFLE(type, a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(type, a, b, ...) __builtin_shuffle(a, b, (type){__VA_ARGS__})
#endif

static inline void block4(const uint32_t *from, int64_t apart, uint32_t *to, int64_t to_apart) {
    four a[4], b[4];
    for (int i = 0; i < 4; i++) a[i] = *(const loose4 *)(from + i * apart);
    for (int i = 0; i < 2; i++) {
        b[i] = SHUFFLE(four, a[i], a[i + 2], 0, 4, 1, 5);
        b[i + 2] = SHUFFLE(four, a[i], a[i + 2], 2, 6, 3, 7);
    }
    for (int i = 0; i < 4; i += 2) {
        *(loose4 *)(to + i * to_apart) = SHUFFLE(four, b[i], b[i + 1], 0, 4, 1, 5);
        *(loose4 *)(to + (i + 1) * to_apart) = SHUFFLE(four, b[i], b[i + 1], 2, 6, 3, 7);
    }
}

/* Three rounds of interleaving row i with row i + 4. */
static inline void block8(const uint16_t *from, int64_t apart, uint16_t *to, int64_t to_apart) {
    eight a[8], b[8];
    for (int i = 0; i < 8; i++) a[i] = *(const loose8 *)(from + i * apart);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 4; i++) {
            b[2 * i] = SHUFFLE(eight, a[i], a[i + 4], 0, 8, 1, 9, 2, 10, 3, 11);
            b[2 * i + 1] = SHUFFLE(eight, a[i], a[i + 4], 4, 12, 5, 13, 6, 14, 7, 15);
        }
        for (int i = 0; i < 8; i++) a[i] = b[i];
    }
    for (int i = 0; i < 8; i++) *(loose8 *)(to + i * to_apart) = a[i];
}

/* Strips run along the side whose elements lie closer: the other one's would fall on the same few cache lines. */
#define TURN(name, type, side, block)                                                                       \
    static inline void name##_piece(const type *from, int64_t rows, int64_t width, int64_t apart, type *to, \
                                    int64_t to_apart) {                                                     \
        if (rows >= side && width >= side) block(from, apart, to, to_apart);                                \
        else                                                                                                \
            for (int64_t r = 0; r < rows && r < side; r++)                                                  \
                for (int64_t c = 0; c < width && c < side; c++) to[c * to_apart + r] = from[r * apart + c]; \
    }                                                                                                       \
    void name(const void *from, int64_t rows, int64_t width, int64_t apart, void *to, int64_t to_apart) {   \
        const int down = apart < to_apart;                                                                  \
        const int64_t along = down ? rows : width, across = down ? width : rows;                            \
        for (int64_t strip = 0; strip < along; strip += STRIP)                                              \
            for (int64_t b = 0; b < across; b += side)                                                      \
                for (int64_t a = strip; a < along && a < strip + STRIP; a += side) {                        \
                    const int64_t r = down ? a : b, c = down ? b : a;                                       \
                    name##_piece((const type *)from + r * apart + c, rows - r, width - c, apart,            \
                                 (type *)to + c * to_apart + r, to_apart);                                  \
                }                                                                                           \
    }

TURN(regrow_turn4, uint32_t, 4, block4)
TURN(regrow_turn2, uint16_t, 8, block8)

/* to [width][rows] from [rows][width] of elements of 4 bytes, or of 2 if `half`. */
EXPORT void regrow_transpose(const void *from, int64_t rows, int64_t width, void *to, int half, int threads) {
    const int64_t size = half ? 2 : 4;
#pragma omp parallel for schedule(static) num_threads(rows *width < WORTH ? 1 : threads)
    for (int64_t left = 0; left < width; left += STRIP) {
        const int64_t wide = left + STRIP < width ? STRIP : width - left;
        (half ? regrow_turn2 : regrow_turn4)((const char *)from + left * size, rows, wide, width,
                                             (char *)to + left * rows * size, rows);
    }
}
