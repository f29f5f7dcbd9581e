/*
 * Counts what Python's allocators are asked for: each goes through one of these functions, which count and pass it on.
 *
 * Built and called by allocations.py. The structs are those of PyMemAllocatorEx, so no header of Python is needed. Both
 * domains that are counted need the GIL, so the count needs no lock.
 */

#include <stddef.h>

typedef struct {
    void *context;
    void *(*malloc)(void *context, size_t size);
    void *(*calloc)(void *context, size_t count, size_t size);
    void *(*realloc)(void *context, void *block, size_t size);
    void (*free)(void *context, void *block);
} Allocator;

typedef struct {
    Allocator real;
    unsigned long long count;
} Counted;

static void *counted_malloc(void *context, size_t size) {
    Counted *counted = context;
    counted->count++;
    return counted->real.malloc(counted->real.context, size);
}

static void *counted_calloc(void *context, size_t count, size_t size) {
    Counted *counted = context;
    counted->count++;
    return counted->real.calloc(counted->real.context, count, size);
}

static void *counted_realloc(void *context, void *block, size_t size) {
    Counted *counted = context;
    counted->count++;
    return counted->real.realloc(counted->real.context, block, size);
}

static void passed_free(void *context, void *block) {
    Counted *counted = context;
    counted->real.free(counted->real.context, block);
}

/* Makes an allocator that counts of the one in counted->real. */
void counting_allocator(Allocator *made, Counted *counted) {
    counted->count = 0;
    made->context = counted;
    made->malloc = counted_malloc;
    made->calloc = counted_calloc;
    made->realloc = counted_realloc;
    made->free = passed_free;
}
