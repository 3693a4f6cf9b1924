// SPDX-License-Identifier: Apache-2.0
//
// A build's last step. In the executable that it writes this code can't be reached any more.

#include "image.h"

#include <elf.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "heap.h"

static unsigned char *read_whole(const char *path, size_t *size) {
  struct stat about;
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0 || fstat(fd, &about) != 0) return NULL;
  *size = (size_t)about.st_size;
  unsigned char *bytes = malloc(*size);
  for (size_t at = 0; bytes != NULL && at < *size;) {
    ssize_t length = read(fd, bytes + at, *size - at);
    if (length <= 0) return NULL;
    at += (size_t)length;
  }
  close(fd);
  return bytes;
}

// Where in the file the bytes of an address are: elf(5), the segment that holds it. NULL when none does.
static unsigned char *in_file(unsigned char *file, size_t size, uintptr_t address, size_t length) {
  const Elf64_Ehdr *header = (const Elf64_Ehdr *)file;
  for (int at = 0; at < header->e_phnum; at++) {
    const Elf64_Phdr *segment = (const Elf64_Phdr *)(file + header->e_phoff) + at;
    if (segment->p_type != PT_LOAD || address < segment->p_vaddr) continue;
    size_t offset = address - segment->p_vaddr;
    if (offset + length <= segment->p_filesz && segment->p_offset + offset + length <= size)
      return file + segment->p_offset + offset;
  }
  return NULL;
}

const char *write_image(const char *path) {
  size_t size;
  unsigned char *file = read_whole("/proc/self/exe", &size);
  if (file == NULL) return "the executable can't be read";
  unsigned char *there = in_file(file, size, (uintptr_t)image, IMAGE_BYTES);
  if (there == NULL) return "the heap isn't in the executable's file";
  memcpy(there, image, IMAGE_BYTES);
  int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);
  if (fd < 0) return "the image can't be written";
  for (size_t at = 0; at < size;) {
    ssize_t length = write(fd, file + at, size - at);
    if (length <= 0) return "the image can't be written";
    at += (size_t)length;
  }
  return close(fd) == 0 ? NULL : "the image can't be written";
}
