// The exponential of vectors, for kernels; see vectors.h for how they are compiled.
#ifndef MLSEL_EXPONENTIAL_H
#define MLSEL_EXPONENTIAL_H

#include "vectors.h"

namespace mlsel::MLSEL_KERNEL {
namespace {

template <typename Real> struct Exponential;
template <> struct Exponential<float> {
  typedef int bits __attribute__((vector_size(VECTOR_BYTES), may_alias));
  static constexpr float rounder = 12582912.0f;    // 1.5 · 2²³: adding it rounds to an integer
  static constexpr int exponent_shift = 23;
  static constexpr float ln2_high = 0.693359375f, ln2_low = -2.12194440e-4f;
  static constexpr float smallest = -87.0f;
  static constexpr int terms = 7;
};
template <> struct Exponential<double> {
  typedef long bits __attribute__((vector_size(VECTOR_BYTES), may_alias));
  static constexpr double rounder = 6755399441055744.0;    // 1.5 · 2⁵²
  static constexpr int exponent_shift = 52;
  static constexpr double ln2_high = 0.693145751953125, ln2_low = 1.42860682030941723212e-6;
  static constexpr double smallest = -708.0;
  static constexpr int terms = 13;
};

/// 1/k!
template <typename Real> struct Factorials {
  Real inverse[Exponential<Real>::terms + 1] = {};
  constexpr Factorials()
  {
    double factorial = 1;
    for (int k = 0; k <= Exponential<Real>::terms; k++) {
      if (k > 0) factorial *= k;
      inverse[k] = static_cast<Real>(1 / factorial);
    }
  }
};
template <typename Real> constexpr Factorials<Real> FACTORIALS = {};

/// e^x for x ≤ 0, to a rounding or two; 0 where it would be denormal.
template <typename Real> inline Vector<Real> exp_negative(Vector<Real> x)
{
  using E = Exponential<Real>;
  using Bits = typename E::bits;
  const Vector<Real> low = Vector<Real>{} + E::smallest;
  const Bits kept = x > low;
  x = x > low ? x : low;
  const Vector<Real> shifted = x * static_cast<Real>(1.44269504088896340736) + E::rounder;
  const Vector<Real> n = shifted - E::rounder;
  const Vector<Real> r = (x - n * E::ln2_high) - n * E::ln2_low;
  // Taylor's series, |r| ≤ ln 2/2
  Vector<Real> power = Vector<Real>{} + FACTORIALS<Real>.inverse[E::terms];
  for (int k = E::terms - 1; k >= 0; k--) power = power * r + FACTORIALS<Real>.inverse[k];
  const Bits n_bits = reinterpret_cast<const Bits &>(shifted) << E::exponent_shift;
  const Bits result = (reinterpret_cast<const Bits &>(power) + n_bits) & kept;
  return reinterpret_cast<const Vector<Real> &>(result);
}

}    // namespace
}    // namespace mlsel::MLSEL_KERNEL

#endif
