// SPDX-License-Identifier: Apache-2.0
#ifndef FLATNET_HEAP_H
#define FLATNET_HEAP_H

#include <stddef.h>

#include "quickjs.h"

// Where everything of the engine lies, at an address that is the same in every run: its first part is in the executable's file,
// so that a build can leave in it what it has made (image.c).

// Of the part in the file.
#define IMAGE_BYTES (1 << 20)
// Of all. Where it ends the engine throws, and the verb is undone.
#define HEAP_BYTES (128 << 20)

// The engine's allocator.
extern const JSMallocFunctions HEAP_FUNCTIONS;

// The part in the file.
extern unsigned char image[IMAGE_BYTES];

// What was made by then, kept in the image: the engine's context; NULL in an image in which nothing was made yet.
JSContext *heap_context(void);

// Keeps it. From then on all memory comes from beyond the image; 0 when some already did, so that the image isn't whole.
int heap_keep_context(JSContext *ctx);

#endif
