// SPDX-License-Identifier: Apache-2.0
#ifndef FLATNET_IMAGE_H
#define FLATNET_IMAGE_H

// Writes a copy of this executable to `path` in which the part of the heap that is in the file is as it is now. The copy goes on from
// there: its code and its heap are at the same addresses, because it is linked to fixed ones. Returns an error's text or NULL.
const char *write_image(const char *path);

#endif
