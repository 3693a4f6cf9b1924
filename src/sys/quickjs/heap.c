// SPDX-License-Identifier: Apache-2.0
//
// An allocator for a process that lives for milliseconds: blocks of some sizes, one list of free ones for each size, nothing
// joined, nothing given back to the kernel. All that it knows is in `image` as well.

#include "heap.h"

#include <stdint.h>
#include <string.h>

// Before each block, which the engine wants aligned like this: its class.
#define HEADER 16
// Up to SMALL every multiple of 16 is a size; above it there are four sizes for each power of two.
#define SMALL 1024
#define SMALL_CLASSES (SMALL / 16)
#define CLASSES (SMALL_CLASSES + 4 * 20)

struct block {
  uint64_t class;
  // In a free block.
  struct block *next;
};

struct heap {
  // What hasn't been given out yet, in `image` or beyond.
  unsigned char *at, *end;
  struct block *free[CLASSES];
  // Whether `image` has been left.
  int outside;
  JSContext *kept;
};

// In a section of its own, with a first byte that isn't zero, so that it is in the file. Whole pages, so that nothing else is on them.
unsigned char image[IMAGE_BYTES] __attribute__((section(".image"), aligned(4096))) = {1};
static unsigned char beyond[HEAP_BYTES - IMAGE_BYTES] __attribute__((aligned(4096)));

static struct heap *heap(void) {
  struct heap *it = (struct heap *)image;
  if (it->end == NULL) {
    it->at = image + ((sizeof *it + 15) & ~(size_t)15);
    it->end = image + IMAGE_BYTES;
  }
  return it;
}

// The smallest size that is at least `bytes`, and its class; 0 when there is none.
static size_t size_of(size_t bytes, unsigned *class) {
  if (bytes <= SMALL) {
    size_t units = bytes == 0 ? 1 : (bytes + 15) / 16;
    *class = (unsigned)units - 1;
    return units * 16;
  }
  *class = SMALL_CLASSES;
  for (size_t power = SMALL; power < HEAP_BYTES; power *= 2)
    for (size_t quarter = 1; quarter <= 4; quarter++, ++*class)
      if (bytes <= power + quarter * (power / 4)) return power + quarter * (power / 4);
  return 0;
}

static size_t size_of_class(unsigned class) {
  if (class < SMALL_CLASSES) return (class + 1) * 16;
  size_t power = (size_t)SMALL << ((class - SMALL_CLASSES) / 4);
  return power + ((class - SMALL_CLASSES) % 4 + 1) * (power / 4);
}

static struct block *block_of(const void *memory) { return (struct block *)((unsigned char *)(uintptr_t)memory - HEADER); }

static struct block *take_free(struct heap *it, unsigned class) {
  struct block *block = it->free[class];
  if (block != NULL) it->free[class] = block->next;
  return block;
}

static void leave_image(struct heap *it) {
  it->at = beyond;
  it->end = beyond + sizeof beyond;
  it->outside = 1;
}

// Room for as much: behind what has been given out, or else in the largest free block, which is cut up. What is left of the room before
// is lost; that matters only where memory runs out, and there a little more of it lets what was done be undone.
static int make_room(struct heap *it, size_t bytes) {
  if ((size_t)(it->end - it->at) >= bytes) return 1;
  if (!it->outside) {
    leave_image(it);
    return make_room(it, bytes);
  }
  for (unsigned class = CLASSES; class-- > 0 && HEADER + size_of_class(class) >= bytes;) {
    struct block *block = take_free(it, class);
    if (block == NULL) continue;
    it->at = (unsigned char *)block;
    it->end = it->at + HEADER + size_of_class(class);
    return 1;
  }
  return 0;
}

static void *heap_malloc(JSMallocState *state, size_t bytes) {
  struct heap *it = heap();
  unsigned class;
  size_t size = size_of(bytes, &class);
  if (size == 0) return NULL;
  struct block *block = take_free(it, class);
  if (block == NULL) {
    if (!make_room(it, HEADER + size)) return NULL;
    block = (struct block *)it->at;
    it->at += HEADER + size;
    block->class = class;
  }
  state->malloc_count++;
  state->malloc_size += HEADER + size;
  return (unsigned char *)block + HEADER;
}

static void heap_free(JSMallocState *state, void *memory) {
  if (memory == NULL) return;
  struct block *block = block_of(memory);
  state->malloc_count--;
  state->malloc_size -= HEADER + size_of_class((unsigned)block->class);
  block->next = heap()->free[block->class];
  heap()->free[block->class] = block;
}

static size_t heap_usable(const void *memory) {
  return memory == NULL ? 0 : size_of_class((unsigned)block_of(memory)->class);
}

static void *heap_realloc(JSMallocState *state, void *memory, size_t bytes) {
  if (memory == NULL) return bytes == 0 ? NULL : heap_malloc(state, bytes);
  if (bytes == 0) {
    heap_free(state, memory);
    return NULL;
  }
  size_t size = heap_usable(memory);
  if (bytes <= size) return memory;
  void *larger = heap_malloc(state, bytes);
  if (larger == NULL) return NULL;
  memcpy(larger, memory, size);
  heap_free(state, memory);
  return larger;
}

const JSMallocFunctions HEAP_FUNCTIONS = {heap_malloc, heap_free, heap_realloc, heap_usable};

JSContext *heap_context(void) { return heap()->kept; }

int heap_keep_context(JSContext *ctx) {
  struct heap *it = heap();
  if (it->outside) return 0;
  it->kept = ctx;
  leave_image(it);
  return 1;
}
