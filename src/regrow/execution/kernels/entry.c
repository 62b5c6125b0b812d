/* What Python calls: picks the instruction set and shares the rows among threads. */
#include "kernels.h"

#ifdef _OPENMP
#include <omp.h>
#else
static int omp_get_thread_num(void) { return 0; }
static int omp_get_num_threads(void) { return 1; }
#endif

#define EXPORT __attribute__((visibility("default")))
#define WORTH 32768    /* multiplications below which a second thread costs more than it brings */

/* What serves one instruction set: float activations, bfloat16 ones. */
typedef struct {
    const kernels *whole, *half;
} set;

static set chosen = {&regrow_portable, &regrow_portable_half};

/* 0 portable, 1 AVX2 with FMA, 2 AVX-512, 3 AVX-512 with bfloat16; null where the processor, or the build, lacks it. */
static set find(int isa) {
#ifdef REGROW_X86
    __builtin_cpu_init();
    const int avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    const int avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
                       __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq");
    if (isa == 1 && avx2) return (set){&regrow_avx2, &regrow_avx2_half};
    if (isa == 2 && avx512) return (set){&regrow_avx512, &regrow_avx512_half};
#ifdef REGROW_BF16
    if (isa == 3 && avx512 && __builtin_cpu_supports("avx512bf16")) return (set){&regrow_avx512, &regrow_avx512bf16_half};
#endif
#endif
    return isa == 0 ? (set){&regrow_portable, &regrow_portable_half} : (set){0, 0};
}

EXPORT int regrow_has(int isa) { return find(isa).whole != 0; }

EXPORT void regrow_use(int isa) {
    if (regrow_has(isa)) chosen = find(isa);
}

/* The first row that is not of the first `share` of `shares` equal parts of the work: an entry costs what a row does. */
static int64_t bound(const int32_t *pointers, int64_t rows, int share, int shares) {
    const int64_t goal = (pointers[rows] + rows) * share / shares;
    int64_t low = 0, high = rows;
    while (low < high) {
        const int64_t middle = (low + high) / 2;
        if (pointers[middle] + middle < goal) low = middle + 1;
        else high = middle;
    }
    return low;
}

static int product(const kernels *with, const matrix *w, const float *bias, const void *x, void *y, int64_t n,
                   int threads) {
    int failed = 0;
#pragma omp parallel num_threads(w->pointers[w->rows] * n < WORTH ? 1 : threads) reduction(| : failed)
    {
        const int me = omp_get_thread_num(), all = omp_get_num_threads();
        const int64_t first = bound(w->pointers, w->rows, me, all), last = bound(w->pointers, w->rows, me + 1, all);
        if (first < last) failed = with->product(w, first, last, bias, x, y, n);
    }
    return failed;
}

/* The matrix [out][width] of an index table (see index.py), and its transpose. */
static matrix by_rows(const int32_t *index, int64_t out, int64_t width, const float *values) {
    return (matrix){out, width, index, index + out + 1, 0, values};
}

static matrix by_columns(const int32_t *index, int64_t out, int64_t width, int64_t nnz, const float *values) {
    const int32_t *pointers = index + out + 1 + nnz, *rows = pointers + width + 1;
    return (matrix){width, out, pointers, rows, rows + nnz, values};
}

/* y [out][n] = w x + bias (or null); x [width][n]. Activations are bfloat16 if `half`, else float; all else is float. */
EXPORT int regrow_product(const int32_t *index, int64_t out, int64_t width, int64_t nnz, const float *values,
                          const float *bias, const void *x, void *y, int half, int64_t n, int threads) {
    const matrix w = by_rows(index, out, width, values);
    (void)nnz;
    return product(half ? chosen.half : chosen.whole, &w, bias, x, y, n, threads);
}

/* Of y = w x + bias, from g [out][n] and x [width][n]: dx [width][n], dw [nnz], db [out]; each may be null. */
EXPORT int regrow_gradients(const int32_t *index, int64_t out, int64_t width, int64_t nnz, const float *values,
                            const void *g, const void *x, void *dx, float *dw, float *db, int half, int64_t n,
                            int threads) {
    const kernels *with = half ? chosen.half : chosen.whole;
    const matrix w = by_columns(index, out, width, nnz, values);
    int failed = dx && !dw ? product(with, &w, 0, g, dx, n, threads) : 0;
#pragma omp parallel num_threads(nnz * n < WORTH ? 1 : threads) reduction(| : failed)
    {
        const int me = omp_get_thread_num(), all = omp_get_num_threads();
        const int64_t first = bound(w.pointers, width, me, all), last = bound(w.pointers, width, me + 1, all);
        if (dw && first < last) failed |= with->gradients(&w, first, last, g, x, dx, dw, n);
        if (db) with->sums(out * me / all, out * (me + 1) / all, g, db, n);
    }
    return failed;
}
