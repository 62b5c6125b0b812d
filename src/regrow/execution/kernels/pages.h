/* Large pages, for what is about to be written for the first time: a tenth of the faults and less, and fewer pages to
   look up while lines that lie far apart are read and written. */
#ifndef REGROW_PAGES_H
#define REGROW_PAGES_H

#include <stdint.h>
#ifdef __linux__
#include <sys/mman.h>
#endif

#define PAGE (2 << 20)    /* bytes of one */

/* Those that lie within may be large. */
static inline void large_pages(void *at, int64_t bytes) {
#ifdef MADV_HUGEPAGE
    const uintptr_t first = ((uintptr_t)at + PAGE - 1) / PAGE * PAGE, last = ((uintptr_t)at + bytes) / PAGE * PAGE;
    if (first < last) madvise((void *)first, last - first, MADV_HUGEPAGE);
#else
    (void)at, (void)bytes;
#endif
}

#endif
