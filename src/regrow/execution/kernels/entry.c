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

static const kernels *chosen = &regrow_portable;

/* 0 portable, 1 AVX2 with FMA, 2 AVX-512; null where the processor, or the build, lacks it. */
static const kernels *find(int isa) {
#ifdef REGROW_X86
    __builtin_cpu_init();
    if (isa == 1 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return &regrow_avx2;
    if (isa == 2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq"))
        return &regrow_avx512;
#endif
    return isa == 0 ? &regrow_portable : 0;
}

EXPORT int regrow_has(int isa) { return find(isa) != 0; }

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

static int product(const matrix *w, const float *bias, const float *x, float *y, int64_t n, int threads) {
    int failed = 0;
#pragma omp parallel num_threads(w->pointers[w->rows] * n < WORTH ? 1 : threads) reduction(| : failed)
    {
        const int me = omp_get_thread_num(), all = omp_get_num_threads();
        const int64_t first = bound(w->pointers, w->rows, me, all), last = bound(w->pointers, w->rows, me + 1, all);
        if (first < last) failed = chosen->product(w, first, last, bias, x, y, n);
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

/* y [out][n] = w x + bias (or null); x [width][n]. */
EXPORT int regrow_product(const int32_t *index, int64_t out, int64_t width, int64_t nnz, const float *values,
                          const float *bias, const float *x, float *y, int64_t n, int threads) {
    const matrix w = by_rows(index, out, width, values);
    (void)nnz;
    return product(&w, bias, x, y, n, threads);
}

/* Of y = w x + bias, from g [out][n] and x [width][n]: dx [width][n], dw [nnz], db [out]; each may be null. */
EXPORT int regrow_gradients(const int32_t *index, int64_t out, int64_t width, int64_t nnz, const float *values,
                            const float *g, const float *x, float *dx, float *dw, float *db, int64_t n, int threads) {
    const matrix w = by_columns(index, out, width, nnz, values);
    int failed = dx && !dw ? product(&w, 0, g, dx, n, threads) : 0;
#pragma omp parallel num_threads(nnz * n < WORTH ? 1 : threads) reduction(| : failed)
    {
        const int me = omp_get_thread_num(), all = omp_get_num_threads();
        const int64_t first = bound(w.pointers, width, me, all), last = bound(w.pointers, width, me + 1, all);
        if (dw && first < last) failed |= chosen->gradients(&w, first, last, g, x, dx, dw, n);
        if (db) chosen->sums(out * me / all, out * (me + 1) / all, g, db, n);
    }
    return failed;
}
