// A step of farthest-point sampling; mlsel/selection/fps.py has the same by array operations, to the
// same bits: hence no fused multiply-add (-ffp-contract=off), and one order of the sums.

#include <cstdint>

namespace {

constexpr int lanes = 8;
template <typename Real> struct Vector {
  typedef Real Lanes __attribute__((vector_size(lanes * sizeof(Real)), aligned(sizeof(Real)), may_alias));
};

template <typename Real> inline Real squared_distance(int64_t width, const Real *x, const Real *y) {
  using Lanes = typename Vector<Real>::Lanes;
  Lanes sum = {};
  for (int64_t d = 0; d < width; d += lanes) {
    const Lanes difference = *reinterpret_cast<const Lanes *>(x + d) -
                             *reinterpret_cast<const Lanes *>(y + d);
    sum += difference * difference;
  }
  return ((sum[0] + sum[4]) + (sum[2] + sum[6])) + ((sum[1] + sum[5]) + (sum[3] + sum[7]));
}

} // namespace

extern "C" {

struct Points {
  int64_t n, width;     // width: a multiple of 8
  const double *exact;  // (n, width)
  const float *rounded; // the same, near the origin
  double error;         // what a squared distance of these may be too large by
  double *nearest;      // (n), squared distance to the nearest chosen point
  int32_t *owner;       // (n), which of the chosen that is
};

/// Takes in the k-th chosen point, and returns the place of the point that is now the farthest from
/// all chosen (of several the first). reach: of each of the k chosen before, how far from it a point
/// must be (squared) to be perhaps nearer to the new one. A point that the rounded coordinates put
/// farther away than its nearest is left alone; half as much is read for that.
int64_t farthest(const Points *given, const double *centre, const float *rounded_centre,
                 const double *reach, int32_t k) {
  const Points &p = *given;
  int64_t best = 0;
  for (int64_t i = 0; i < p.n; ++i) {
    double &nearest = p.nearest[i];
    if (nearest > reach[p.owner[i]]) {
      const double about = squared_distance(p.width, p.rounded + i * p.width, rounded_centre);
      if (about * (1.0 - 2e-4) - p.error <= nearest) {
        const double squared = squared_distance(p.width, p.exact + i * p.width, centre);
        if (squared < nearest) {
          nearest = squared;
          p.owner[i] = k;
        }
      }
    }
    if (nearest > p.nearest[best])
      best = i;
  }
  return best;
}
}
