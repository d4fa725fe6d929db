// A step of farthest-point sampling; mlsel/selection/fps.py has the same by array operations, to the
// same bits: hence no fused multiply-add (-ffp-contract=off), and one order of the sums.

#include <algorithm>
#include <cstddef>
#include <cstdint>

namespace {

constexpr int lanes = 8;
typedef double Lanes __attribute__((vector_size(lanes * sizeof(double)), aligned(8), may_alias));
typedef float Floats __attribute__((vector_size(lanes * sizeof(float)), aligned(4), may_alias));

inline double squared_distance(int64_t width, const double *x, const double *y) {
  Lanes sum = {};
  for (int64_t d = 0; d < width; d += lanes) {
    const Lanes difference = *reinterpret_cast<const Lanes *>(x + d) -
                             *reinterpret_cast<const Lanes *>(y + d);
    sum += difference * difference;
  }
  return ((sum[0] + sum[4]) + (sum[2] + sum[6])) + ((sum[1] + sum[5]) + (sum[3] + sum[7]));
}

/// Of 8 points, in single precision.
inline Floats about(int64_t width, const float *points, const float *y) {
  Floats even = {}, odd = {};
  for (int64_t d = 0; d < width; d += 2) {
    const Floats first = *reinterpret_cast<const Floats *>(points + d * lanes) - y[d];
    const Floats second = *reinterpret_cast<const Floats *>(points + (d + 1) * lanes) - y[d + 1];
    even += first * first;
    odd += second * second;
  }
  return even + odd;
}

} // namespace

extern "C" {

struct Points {
  int64_t n, width;     // width: a multiple of 8
  const double *exact;  // (n, width)
  const float *rounded; // the same, near the origin: of 8 points after another (n / 8, width, 8)
  double error;         // what a squared distance of these may be too large by
  double *nearest;      // (n), squared distance to the nearest chosen point
  int32_t *owner;       // (n), which of the chosen that is
};

// see mlsel.core.native.check_layout
extern const int64_t layout_points[];
const int64_t layout_points[] = {
    sizeof(Points),
    offsetof(Points, n),
    offsetof(Points, width),
    offsetof(Points, exact),
    offsetof(Points, rounded),
    offsetof(Points, error),
    offsetof(Points, nearest),
    offsetof(Points, owner),
    -1};

/// Takes in the k-th chosen point, and returns the place of the point that is now the farthest from
/// all chosen (of several the first). reach: of each of the k chosen before, how far from it a point
/// must be (squared) to be perhaps nearer to the new one. A point that the rounded coordinates put
/// farther away than its nearest is left alone; half as much is read for that.
int64_t farthest(const Points *given, const double *centre, const float *rounded_centre,
                 const double *reach, int32_t k) {
  const Points &p = *given;
  int64_t best = 0;
  for (int64_t start = 0; start < p.n; start += lanes) {
    const int64_t end = std::min(start + lanes, p.n);
    bool any = false;
    for (int64_t i = start; i < end; ++i)
      any |= p.nearest[i] > reach[p.owner[i]];
    if (any) {
      const Floats squares = about(p.width, p.rounded + start * p.width, rounded_centre);
      for (int64_t i = start; i < end; ++i) {
        if (squares[i - start] * (1.0 - 2e-4) - p.error > p.nearest[i])
          continue;
        const double squared = squared_distance(p.width, p.exact + i * p.width, centre);
        if (squared < p.nearest[i]) {
          p.nearest[i] = squared;
          p.owner[i] = k;
        }
      }
    }
    for (int64_t i = start; i < end; ++i)
      if (p.nearest[i] > p.nearest[best])
        best = i;
  }
  return best;
}
}
