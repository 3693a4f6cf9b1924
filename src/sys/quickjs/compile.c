// SPDX-License-Identifier: Apache-2.0
//
// compile MODULE.js OUT: QuickJS's bytecode of one bundled module, for host.c. It is the same for every machine with the same
// byte order, so the compiler runs where the build does. The text stays behind, and so does what only a debugger would want.

#include <stdio.h>
#include <stdlib.h>

#include "quickjs.h"

static char *read_file(const char *path, size_t *length) {
  FILE *file = fopen(path, "rb");
  if (file == NULL || fseek(file, 0, SEEK_END) != 0) return NULL;
  long size = ftell(file);
  char *text = size < 0 ? NULL : malloc((size_t)size + 1);
  if (text == NULL || fseek(file, 0, SEEK_SET) != 0) return NULL;
  *length = fread(text, 1, (size_t)size, file);
  // The parser wants a zero behind the text.
  text[*length] = 0;
  return fclose(file) == 0 && *length == (size_t)size ? text : NULL;
}

int main(int argc, char **argv) {
  size_t length, size;
  char *text = argc == 3 ? read_file(argv[1], &length) : NULL;
  if (text == NULL) {
    fprintf(stderr, "usage: compile MODULE.js OUT: %s\n", argc == 3 ? "MODULE.js can't be read" : "two arguments");
    return 1;
  }
  JSRuntime *runtime = JS_NewRuntime();
  JSContext *ctx = JS_NewContext(runtime);
  int flags = JS_EVAL_TYPE_MODULE | JS_EVAL_FLAG_COMPILE_ONLY | JS_EVAL_FLAG_STRIP;
  JSValue module = JS_Eval(ctx, text, length, "flatnet", flags);
  if (JS_IsException(module)) {
    fprintf(stderr, "%s: %s\n", argv[1], JS_ToCString(ctx, JS_GetException(ctx)));
    return 1;
  }
  uint8_t *bytes = JS_WriteObject(ctx, &size, module, JS_WRITE_OBJ_BYTECODE);
  FILE *out = fopen(argv[2], "wb");
  if (bytes == NULL || out == NULL || fwrite(bytes, 1, size, out) != size || fclose(out) != 0) {
    fprintf(stderr, "%s can't be written\n", argv[2]);
    return 1;
  }
  return 0;
}
