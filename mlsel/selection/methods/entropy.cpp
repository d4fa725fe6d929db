// Sums of Gaussians as logarithms; entropy.py has the same by array operations. With
// -ffast-math the exponentials are those of the C library for vectors; all numbers are finite. It is
// linked without (mlsel/core/native.py).

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <exception>
#include <vector>

namespace {

constexpr int lanes = 4, tile = 16;
typedef double Lanes __attribute__((vector_size(lanes * sizeof(double)), aligned(8), may_alias));

/// -|y - x_j|^2 for 16 points x, (width, 16).
inline void exponents(int64_t width, const double *y, const double *x, double *out) {
  Lanes sums[tile / lanes] = {};
  for (int64_t d = 0; d < width; ++d)
    for (int k = 0; k < tile / lanes; ++k) {
      const Lanes difference = *reinterpret_cast<const Lanes *>(x + d * tile + k * lanes) - y[d];
      sums[k] -= difference * difference;
    }
  for (int k = 0; k < tile / lanes; ++k)
    *reinterpret_cast<Lanes *>(out + k * lanes) = sums[k];
}

} // namespace

extern "C" {

/// out[i] = ln sum_j exp(-scale^2 |y_i - x_j|^2), for n points y and m points x of some width.
/// Returns 0, or 1 where there is no memory.
int log_sums(int64_t n, int64_t m, int64_t width, const double *y, const double *x, double scale,
             double *out) try {
  constexpr double negligible = -40.0; // 1e4 such terms are below the rounding of the largest
  const int64_t n_tiles = (m + tile - 1) / tile;
  std::vector<double> tiles(n_tiles * width * tile), row(n_tiles * tile), scaled(width);
  for (int64_t j = 0; j < m; ++j)
    for (int64_t d = 0; d < width; ++d)
      tiles[(j / tile * width + d) * tile + j % tile] = x[j * width + d] * scale;
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t d = 0; d < width; ++d)
      scaled[d] = y[i * width + d] * scale;
    for (int64_t t = 0; t < n_tiles; ++t)
      exponents(width, scaled.data(), tiles.data() + t * width * tile, row.data() + t * tile);
    double top = row[0];
    for (int64_t j = 1; j < m; ++j)
      top = std::max(top, row[j]);
    int64_t kept = 0;
    for (int64_t j = 0; j < m; ++j) {
      const double exponent = row[j] - top;
      row[kept] = exponent; // kept <= j
      kept += exponent > negligible;
    }
    double sum = 0.0;
    for (int64_t j = 0; j < kept; ++j)
      sum += std::exp(row[j]);
    out[i] = std::log(sum) + top;
  }
  return 0;
} catch (const std::exception &) {
  return 1;
}

/// The same for the points of each frame, from starts[f] to starts[f + 1], over its own points.
int own_log_sums(int64_t n_frames, const int64_t *starts, int64_t width, const double *x,
                 double scale, double *out) {
  int status = 0;
  for (int64_t f = 0; f < n_frames && status == 0; ++f) {
    const int64_t n = starts[f + 1] - starts[f];
    const double *own = x + starts[f] * width;
    status = log_sums(n, n, width, own, own, scale, out + starts[f]);
  }
  return status;
}
}
