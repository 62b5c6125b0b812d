/* Rows of a dense gradient: a tile stays in registers while the lanes pass by. */
#include "outer.h"

#include "kernels.h"
#include "vector.h"

#if VW == 16
#include <immintrin.h>
#endif

#define ROWS 6                     /* of a tile: for each lane, that many numbers of g are spread */
#define WIDE (VW == 16 ? 4 : 2)    /* vectors of x in a tile */

INLINE void tile(const int R, const float *g, int64_t n, const float *x, float *to, int64_t apart) {
    vec sum[ROWS][WIDE];
    UNROLL for (int r = 0; r < R; r++) UNROLL for (int v = 0; v < WIDE; v++) sum[r][v] = spread(0);
    for (int64_t k = 0; k < n; k++) {
        vec here[WIDE];
        UNROLL for (int v = 0; v < WIDE; v++) here[v] = load(x + k * PANEL + v * VW);
        UNROLL for (int r = 0; r < R; r++) UNROLL for (int v = 0; v < WIDE; v++) sum[r][v] += spread(g[r * n + k]) * here[v];
    }
    UNROLL for (int r = 0; r < R; r++) UNROLL for (int v = 0; v < WIDE; v++) store(to + r * apart + v * VW, sum[r][v]);
}

static void rows(const float *g, int64_t count, int64_t n, const float *x, int64_t panels, float *to) {
    const int64_t apart = panels * PANEL;
    for (int64_t c = 0; c < apart; c += WIDE * VW) {
        const float *from = x + c / PANEL * PANEL * n + c % PANEL;
        int64_t r = 0;
        for (; r + ROWS <= count; r += ROWS) tile(ROWS, g + r * n, n, from, to + r * apart + c, apart);
        for (; r < count; r++) tile(1, g + r * n, n, from, to + r * apart + c, apart);
    }
}

static int64_t above(const float *row, int64_t width, float bound, int32_t *at) {
    int64_t found = 0, k = 0;
#if VW == 16
    const __m512i places = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    for (; k + VW <= width; k += VW) {
        const __mmask16 high = _mm512_cmp_ps_mask(_mm512_abs_ps(_mm512_loadu_ps(row + k)), _mm512_set1_ps(bound), _CMP_NLE_UQ);
        const __m512i here = _mm512_add_epi32(places, _mm512_set1_epi32((int32_t)k));
        _mm512_storeu_si512(at + found, _mm512_maskz_compress_epi32(high, here));
        found += __builtin_popcount(high);
    }
#endif
    for (; k < width; k++) {
        at[found] = (int32_t)k;
        found += !(__builtin_fabsf(row[k]) <= bound);
    }
    return found;
}

#define NAME_(isa) regrow_outer_##isa
#define NAME(isa) NAME_(isa)
const outer NAME(ISA) = {rows, above};
