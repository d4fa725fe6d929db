// The least and the greatest value of each frame, while its block is in the cache; extremes.py has
// the same by array operations, to the same bits: hence nothing fused (-ffp-contract=off). A frame
// whose values are not all finite gets NaN for both.

#include <cerrno>
#include <cstdint>
#include <cstring>
#include <limits>
#include <unistd.h>

namespace {

constexpr int lanes = 8;
typedef double Loaded __attribute__((vector_size(lanes * sizeof(double)), aligned(8), may_alias));
typedef double Lanes __attribute__((vector_size(lanes * sizeof(double))));
typedef int64_t LoadedMask
    __attribute__((vector_size(lanes * sizeof(int64_t)), aligned(8), may_alias));
typedef int64_t Mask __attribute__((vector_size(lanes * sizeof(int64_t))));

constexpr double infinity = std::numeric_limits<double>::infinity();

inline Lanes load(const double *at) { return *reinterpret_cast<const Loaded *>(at); }

/// Numbers, one an atom.
struct Numbers {
  static constexpr int width = 1;
  static Lanes eight(const double *v) { return load(v); }
  static double one(const double *v) { return v[0]; }
};

/// Squared lengths of vectors.
struct Squares {
  static constexpr int width = 3;
  static Lanes eight(const double *v) {
    const Lanes a = load(v), b = load(v + lanes), c = load(v + 2 * lanes);
    // Of a, b and c, one after the other: every third, from the first, the second and the third on.
    Lanes x = __builtin_shuffle(a * a, b * b, Mask{0, 3, 6, 9, 12, 15, 0, 0});
    Lanes y = __builtin_shuffle(a * a, b * b, Mask{1, 4, 7, 10, 13, 0, 0, 0});
    Lanes z = __builtin_shuffle(a * a, b * b, Mask{2, 5, 8, 11, 14, 0, 0, 0});
    x = __builtin_shuffle(x, c * c, Mask{0, 1, 2, 3, 4, 5, 10, 13});
    y = __builtin_shuffle(y, c * c, Mask{0, 1, 2, 3, 4, 8, 11, 14});
    z = __builtin_shuffle(z, c * c, Mask{0, 1, 2, 3, 4, 9, 12, 15});
    return (x + y) + z;
  }
  static double one(const double *v) { return (v[0] * v[0] + v[1] * v[1]) + v[2] * v[2]; }
};

template <class Kind>
void extremes(int64_t n, int64_t n_atoms, const double *values, const int64_t *counts,
              double *least, double *greatest) {
  for (int64_t f = 0; f < n; ++f) {
    const double *v = values + f * n_atoms * Kind::width;
    Lanes low = Lanes{} + infinity, high = Lanes{} - infinity, bad = {};
    double first = infinity, last = -infinity, wrong = 0.0;
    const auto take = [&](int64_t k) {
      Lanes some = Kind::eight(v + k * Kind::width), large = some;
      if (counts) {
        const Mask mask = *reinterpret_cast<const LoadedMask *>(counts + k);
        bad += mask ? some - some : Lanes{};
        some = mask ? some : Lanes{} + infinity;
        large = mask ? large : Lanes{} - infinity;
      } else {
        bad += some - some; // NaN from the first one that is not finite
      }
      low = some < low ? some : low;
      high = large > high ? large : high;
    };
    if (n_atoms >= lanes) {
      for (int64_t k = 0; k + lanes <= n_atoms; k += lanes)
        take(k);
      if (n_atoms % lanes)
        take(n_atoms - lanes); // some a second time, which changes nothing
    } else {
      for (int64_t k = 0; k < n_atoms; ++k) {
        if (counts && !counts[k])
          continue;
        const double one = Kind::one(v + k * Kind::width);
        first = one < first ? one : first;
        last = one > last ? one : last;
        wrong += one - one;
      }
    }
    for (int j = 0; j < lanes; ++j) {
      first = low[j] < first ? low[j] : first;
      last = high[j] > last ? high[j] : last;
      wrong += bad[j];
    }
    least[f] = first + wrong;
    greatest[f] = last + wrong;
  }
}

/// Whether all of a stretch of a file could be read; less is there where it was cut short.
bool read_all(int file, int64_t offset, int64_t size, char *into) {
  while (size) {
    const ssize_t n = pread(file, into, size, offset);
    if (n < 0 && errno == EINTR)
      continue;
    if (n <= 0)
      return false;
    into += n, offset += n, size -= n;
  }
  return true;
}

} // namespace

extern "C" {

/// Extremes of n frames of n_atoms numbers; of the atoms that count, where counts (-1 or 0 for each
/// atom) is given. A frame with none has +inf and -inf.
void extremes_of_numbers(int64_t n, int64_t n_atoms, const double *values, const int64_t *counts,
                         double *least, double *greatest) {
  extremes<Numbers>(n, n_atoms, values, counts, least, greatest);
}

/// The same of the squared lengths of vectors, (n, n_atoms, 3).
void extremes_of_squares(int64_t n, int64_t n_atoms, const double *vectors, const int64_t *counts,
                         double *least, double *greatest) {
  extremes<Squares>(n, n_atoms, vectors, counts, least, greatest);
}

/// The same of n frames that lie in a file from `offset` on, numbers (width 1) or vectors (3), read
/// `rows` at a time into `buffer`, which so stays in the cache. Those that `keep` (n) marks are
/// copied to `kept`, one after another. Returns 0, or 1 if not all could be read.
int64_t extremes_in_file(int32_t file, int64_t offset, int64_t n, int64_t n_atoms, int64_t width,
                         const int64_t *counts, int64_t rows, double *buffer, const uint8_t *keep,
                         double *kept, double *least, double *greatest) {
  const int64_t size = n_atoms * width;
  const auto find = width == 1 ? extremes_of_numbers : extremes_of_squares;
  for (int64_t start = 0; start < n; start += rows) {
    const int64_t some = start + rows < n ? rows : n - start;
    const int64_t bytes = size * int64_t(sizeof(double));
    if (!read_all(file, offset + start * bytes, some * bytes, reinterpret_cast<char *>(buffer)))
      return 1;
    find(some, n_atoms, buffer, counts, least + start, greatest + start);
    for (int64_t f = 0; keep && f < some; ++f)
      if (keep[start + f]) {
        std::memcpy(kept, buffer + f * size, bytes);
        kept += size;
      }
  }
  return 0;
}
}
