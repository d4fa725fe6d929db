// Distances from chosen points; distances.py has the same by array operations, to the same bits:
// hence no fused multiply-add (-ffp-contract=off), and one order of the sums.

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>

namespace {

constexpr int lanes = 8, tile = 32;
typedef float Floats __attribute__((vector_size(lanes * sizeof(float)), aligned(4), may_alias));
typedef double Lanes __attribute__((vector_size(lanes * sizeof(double)), aligned(8), may_alias));

inline double squared_distance(int64_t width, const double *x, const double *y) {
  Lanes sum = {};
  for (int64_t d = 0; d < width; d += lanes) {
    const Lanes difference = *reinterpret_cast<const Lanes *>(x + d) -
                             *reinterpret_cast<const Lanes *>(y + d);
    sum += difference * difference;
  }
  return ((sum[0] + sum[4]) + (sum[2] + sum[6])) + ((sum[1] + sum[5]) + (sum[3] + sum[7]));
}

#if defined(__FMA__) && defined(__AVX2__)
typedef float Register __attribute__((vector_size(32)));

inline Floats less_product(Floats sum, float x, Floats y) {
  return Floats(__builtin_ia32_vfmaddps256(-(Register{} + x), Register(y), Register(sum)));
}

inline uint32_t signs(Floats values) { return __builtin_ia32_movmskps256(Register(values)); }
#else
inline Floats less_product(Floats sum, float x, Floats y) { return sum - x * y; }

inline uint32_t signs(Floats values) {
  uint32_t bits = 0;
  for (int j = 0; j < lanes; ++j)
    bits |= uint32_t(std::signbit(values[j])) << j;
  return bits;
}
#endif

/// Which of 32 points y, (width, 32), have |y|^2 / 2 - x.y below a bound, in single precision, as
/// bits; width is a multiple of 8. (It only excludes, so that fused products are allowed here.)
inline uint32_t below(int64_t width, const float *x, const float *y, const float *halves,
                      float bound) {
  Floats sums[2][tile / lanes] = {};
  for (int k = 0; k < tile / lanes; ++k)
    sums[0][k] = *reinterpret_cast<const Floats *>(halves + k * lanes);
  for (int64_t d = 0; d < width; d += 2)
    for (int k = 0; k < tile / lanes; ++k)
      for (int odd = 0; odd < 2; ++odd)
        sums[odd][k] =
            less_product(sums[odd][k], x[d + odd],
                         *reinterpret_cast<const Floats *>(y + (d + odd) * tile + k * lanes));
  uint32_t bits = 0;
  for (int k = 0; k < tile / lanes; ++k)
    bits |= signs(sums[0][k] + sums[1][k] - bound) << (k * lanes);
  return bits;
}

constexpr int32_t few = 3; // centres, up to which the tile doesn't pay

} // namespace

extern "C" {

struct Points {
  int64_t n, width;    // width: a multiple of 8
  const double *exact; // (n, width)
  const float *rounded; // the same, near the origin
  const float *half;    // (n), half the sums of their squares
  double *nearest;     // (n), squared distance to the nearest of the centres it was compared with
  int32_t *owner;      // (n), which of the centres that is
  int32_t *seen;       // (n), with how many centres it was compared
};

struct Centres {
  int32_t n, most;
  double *exact; // (most, width)
  const float *rounded; // the same near the origin: of 32 after another (most / 32, width, 32)
  const float *half;    // (most), half the sums of their squares
  double error;         // what a squared distance of the rounded may be too large by
  double *reach; // (most, most): of a later centre and one before, a quarter of their squared
                 // distance, less what rounding may have made it too large by
};

// see mlsel.core.native.check_layout
extern const int64_t layout_points[], layout_centres[];
const int64_t layout_points[] = {
    sizeof(Points),         offsetof(Points, n),     offsetof(Points, width),
    offsetof(Points, exact), offsetof(Points, rounded), offsetof(Points, half), offsetof(Points, nearest), offsetof(Points, owner),
    offsetof(Points, seen), -1};
const int64_t layout_centres[] = {sizeof(Centres),         offsetof(Centres, n),
                                  offsetof(Centres, most), offsetof(Centres, exact), offsetof(Centres, rounded), offsetof(Centres, half), offsetof(Centres, error),
                                  offsetof(Centres, reach), -1};

/// Compares points with the centres they have not seen, each until its nearest is below the limit;
/// puts the places of those that are not below it into `left` and returns how many they are.
int64_t refresh(const Points *given, const Centres *centres, double limit, int64_t *left) {
  const Points &p = *given;
  int64_t n_left = 0;
  for (int64_t i = 0; i < p.n; ++i) {
    if (!(p.nearest[i] >= limit))
      continue;
    double nearest = p.nearest[i];
    int32_t owner = p.owner[i], k = p.seen[i], known = 0; // up to which `near` is known
    uint32_t near = 0;
    const bool in_tiles = centres->n - k > few;
    if (in_tiles) // while products are computed
      for (int64_t d = 0; d < p.width; d += lanes)
        __builtin_prefetch(p.exact + i * p.width + d);
    for (; k < centres->n && nearest >= limit; ++k) {
      if (in_tiles && k >= known) {
        const int64_t start = int64_t(k / tile) * tile;
        near = below(p.width, p.rounded + i * p.width, centres->rounded + start * p.width,
                     centres->half + start, float(0.5 * (nearest + centres->error) - p.half[i]));
        known = start + tile;
        near >>= k % tile;
      }
      if (in_tiles) {
        const int skipped = near ? __builtin_ctz(near) : known - k;
        k += skipped;
        near = skipped + 1 < tile ? near >> (skipped + 1) : 0;
        if (k >= std::min(known, centres->n)) {
          --k; // the loop goes on with the next tile
          continue;
        }
      }
      // Where a product has left the centre in, `reach` is farther away than the centre.
      if (!in_tiles && centres->reach[int64_t(k) * centres->most + owner] >= nearest)
        continue;
      const double squared =
          squared_distance(p.width, p.exact + i * p.width, centres->exact + k * p.width);
      if (squared < nearest) {
        nearest = squared;
        owner = k;
      }
    }
    p.nearest[i] = nearest;
    p.owner[i] = owner;
    p.seen[i] = k;
    left[n_left] = i;
    n_left += nearest >= limit;
  }
  return n_left;
}

/// Adds a centre, its distances from those before and their reach.
void add_centre(Centres *centres, int64_t width, const double *exact, double share) {
  const int32_t k = centres->n++;
  double *own = centres->exact + k * width;
  for (int64_t d = 0; d < width; ++d)
    own[d] = exact[d];
  for (int32_t j = 0; j < k; ++j)
    centres->reach[int64_t(k) * centres->most + j] =
        squared_distance(width, centres->exact + j * width, own) * share;
}

/// Compares points with the centre that came last and returns the farthest from all centres (of
/// several the first), -1 if there is none. All points have seen the centres before.
int64_t compare(const Points *given, const Centres *centres) {
  const Points &p = *given;
  const int32_t k = centres->n - 1;
  const double *reach = centres->reach + int64_t(k) * centres->most;
  const double *centre = centres->exact + k * p.width;
  int64_t best = -1;
  double farthest = -std::numeric_limits<double>::infinity();
  for (int64_t i = 0; i < p.n; ++i) {
    double nearest = p.nearest[i];
    if (!(reach[p.owner[i]] >= nearest)) {
      const double squared = squared_distance(p.width, p.exact + i * p.width, centre);
      if (squared < nearest) {
        p.nearest[i] = nearest = squared;
        p.owner[i] = k;
      }
    }
    if (nearest > farthest) {
      farthest = nearest;
      best = i;
    }
  }
  return best;
}

/// Chooses up to n points, each the farthest from all centres (of several the first), and makes it a
/// centre, as long as its nearest is not below the limit. All points have seen all centres before,
/// and after. Returns how many were chosen; their places go into `chosen`.
int64_t choose(const Points *given, Centres *centres, double share, double limit, int64_t n,
               int64_t *chosen) {
  const Points &p = *given;
  int64_t best = std::max_element(p.nearest, p.nearest + p.n) - p.nearest;
  for (int64_t number = 0; number < n; ++number) {
    if (best < 0 || best >= p.n || !(p.nearest[best] >= limit))
      return number;
    chosen[number] = best;
    add_centre(centres, p.width, p.exact + best * p.width, share);
    p.nearest[best] = -std::numeric_limits<double>::infinity();
    best = compare(given, centres);
  }
  return n;
}
}
