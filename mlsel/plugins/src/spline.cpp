#include "spline.h"

#include <algorithm>
#include <array>

namespace mlsel {
namespace {

constexpr int BAND = 4;    // numbers beside the diagonal, on either side
using Row = std::array<double, 2 * BAND + 1>;

// Five B-splines differ from zero at a knot: 120 times their values, slopes and curvatures there,
// lengths in spacings.
constexpr double VALUES[5] = {1.0, 26.0, 66.0, 26.0, 1.0};
constexpr double SLOPES[5] = {-5.0, -50.0, 0.0, 50.0, 5.0};
constexpr double CURVATURES[5] = {20.0, 40.0, -120.0, 40.0, 20.0};

}    // namespace

std::vector<double> spline_coefficients(const std::vector<double> &knots, int n_knots,
                                        int n_functions, double spacing)
{
  const int n = n_knots + 4;
  const size_t width = n_functions;
  std::vector<Row> matrix(n, Row{});
  std::vector<double> c(n * width);
  // row r, columns r − BAND … r + BAND: five numbers from `first` on, and what they add up to
  const auto set = [&](int row, int first, const double *numbers, int knot, int what,
                       double factor) {
    for (int k = 0; k < 5; k++) matrix[row][first + k - row + BAND] = numbers[k];
    for (size_t f = 0; f < width; f++)
      c[row * width + f] =
          120.0 * factor * knots[(static_cast<size_t>(knot) * 3 + what) * width + f];
  };
  const double h = spacing;
  set(0, 0, CURVATURES, 0, 2, h * h);
  set(1, 0, SLOPES, 0, 1, h);
  for (int k = 0; k < n_knots; k++) set(k + 2, k, VALUES, k, 0, 1.0);
  set(n - 2, n_knots - 1, SLOPES, n_knots - 1, 1, h);
  set(n - 1, n_knots - 1, CURVATURES, n_knots - 1, 2, h * h);

  // Gauss's elimination; no pivot is below 7, whatever n is
  for (int pivot = 0; pivot < n; pivot++)
    for (int row = pivot + 1; row <= std::min(pivot + BAND, n - 1); row++) {
      const double factor = matrix[row][pivot - row + BAND] / matrix[pivot][BAND];
      if (factor == 0.0) continue;
      for (int column = pivot; column <= std::min(pivot + BAND, n - 1); column++)
        matrix[row][column - row + BAND] -= factor * matrix[pivot][column - pivot + BAND];
      for (size_t f = 0; f < width; f++) c[row * width + f] -= factor * c[pivot * width + f];
    }
  for (int row = n - 1; row >= 0; row--)
    for (size_t f = 0; f < width; f++) {
      double sum = c[row * width + f];
      for (int column = row + 1; column <= std::min(row + BAND, n - 1); column++)
        sum -= matrix[row][column - row + BAND] * c[column * width + f];
      c[row * width + f] = sum / matrix[row][BAND];
    }
  return c;
}

}    // namespace mlsel
