// What the terms of a GAP share: quintic splines between knots at equal distances h, from value,
// slope and curvature at both, and the cutoff function.
#ifndef MLSEL_GAP_TABLE_H
#define MLSEL_GAP_TABLE_H

#include <cmath>
#include <numbers>

namespace mlsel {

/// Where, in an interval of 0 … 1, the error of the slope is largest and that of the value large.
constexpr double QUINTIC_TEST = 0.276;

/// The six coefficients of an interval. Differences of close numbers: more digits here are more
/// digits of the slope.
template <typename Real>
void quintic(Real h, Real f0, Real slope0, Real curvature0, Real f1, Real slope1, Real curvature1,
             double *c)
{
  const Real d0 = slope0 * h, s0 = curvature0 * h * h, d1 = slope1 * h, s1 = curvature1 * h * h;
  c[0] = static_cast<double>(f0);
  c[1] = static_cast<double>(d0);
  c[2] = static_cast<double>(s0 / 2);
  c[3] = static_cast<double>(10 * (f1 - f0) - 6 * d0 - 4 * d1 - (3 * s0 - s1) / 2);
  c[4] = static_cast<double>(-15 * (f1 - f0) + 8 * d0 + 7 * d1 + (3 * s0 - 2 * s1) / 2);
  c[5] = static_cast<double>(6 * (f1 - f0) - 3 * (d0 + d1) - (s0 - s1) / 2);
}

/// The value at t = 0 … 1, and the slope by t.
inline double quintic_value(const double *c, double t, double &slope)
{
  double value = c[5];
  slope = 0;
  for (int i = 4; i >= 0; i--) {
    slope = slope * t + value;
    value = value * t + c[i];
  }
  return value;
}

/// QUIP's cutoff function, 1 up to a cosine's half period of this width before the cutoff.
inline double cutoff_function(double r, double cutoff, double width, double &slope)
{
  slope = 0;
  if (r <= cutoff - width) return 1;
  const double rate = std::numbers::pi / width, angle = rate * (r - cutoff + width);
  slope = -0.5 * rate * std::sin(angle);
  return 0.5 * (std::cos(angle) + 1);
}

}    // namespace mlsel
#endif
