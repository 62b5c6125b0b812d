/* [rows][width] -> [width][rows], in blocks of 4 x 4 held in registers. */
#include <stdint.h>

#define EXPORT __attribute__((visibility("default")))
#define WORTH 65536    /* floats below which a second thread costs more than it brings */
#define SIDE 32        /* columns taken at a time: their cache lines stay near */

typedef float four __attribute__((vector_size(16)));
typedef float loose __attribute__((vector_size(16), aligned(4), may_alias));
#ifdef __clang__
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
typedef int32_t which __attribute__((vector_size(16)));
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (which){__VA_ARGS__})
#endif

static inline void block(const float *from, int64_t width, float *to, int64_t rows) {
    const four a = *(const loose *)from, b = *(const loose *)(from + width), c = *(const loose *)(from + 2 * width),
               d = *(const loose *)(from + 3 * width);
    const four ab = SHUFFLE(a, b, 0, 4, 1, 5), cd = SHUFFLE(c, d, 0, 4, 1, 5);
    const four ab2 = SHUFFLE(a, b, 2, 6, 3, 7), cd2 = SHUFFLE(c, d, 2, 6, 3, 7);
    *(loose *)to = SHUFFLE(ab, cd, 0, 1, 4, 5);
    *(loose *)(to + rows) = SHUFFLE(ab, cd, 2, 3, 6, 7);
    *(loose *)(to + 2 * rows) = SHUFFLE(ab2, cd2, 0, 1, 4, 5);
    *(loose *)(to + 3 * rows) = SHUFFLE(ab2, cd2, 2, 3, 6, 7);
}

EXPORT void regrow_transpose(const float *from, int64_t rows, int64_t width, float *to, int threads) {
    const int64_t whole_rows = rows & ~3;
#pragma omp parallel for schedule(static) num_threads(rows *width < WORTH ? 1 : threads)
    for (int64_t left = 0; left < width; left += SIDE) {
        const int64_t end = left + SIDE < width ? left + SIDE : width;
        for (int64_t r = 0; r < whole_rows; r += 4) {
            int64_t c = left;
            for (; c + 4 <= end; c += 4) block(from + r * width + c, width, to + c * rows + r, rows);
            for (; c < end; c++)
                for (int64_t i = r; i < r + 4; i++) to[c * rows + i] = from[i * width + c];
        }
        for (int64_t r = whole_rows; r < rows; r++)
            for (int64_t c = left; c < end; c++) to[c * rows + r] = from[r * width + c];
    }
}
