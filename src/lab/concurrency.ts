// SPDX-License-Identifier: Apache-2.0
//
// Many things at once, but not all of them.

/**
 * Calls `work` for each item, at most `width` at a time, and returns the results in the items' order. After a failure no
 * further item is begun; those under way are waited for, then the first failure is thrown.
 */
export async function inParallel<T, R>(
  items: readonly T[],
  width: number,
  work: (item: T, index: number) => Promise<R>,
): Promise<R[]> {
  const results = new Array<R>(items.length);
  let next = 0;
  let failed: { readonly cause: unknown } | undefined;
  const worker = async () => {
    while (next < items.length && failed === undefined) {
      const index = next++;
      try {
        results[index] = await work(items[index] as T, index);
      } catch (cause) {
        failed ??= { cause };
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(width, items.length) }, worker));
  if (failed !== undefined) throw failed.cause;
  return results;
}
