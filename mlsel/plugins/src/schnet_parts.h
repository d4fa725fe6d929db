// What the compressed mode is made of: the choice of a kernel, linear layers.
#ifndef MLSEL_SCHNET_PARTS_H
#define MLSEL_SCHNET_PARTS_H

#include <string>
#include <vector>

#include "buffer.h"
#include "kernels.h"
#include "schnet_kernel.h"

namespace mlsel {

static_assert(ALIGNMENT <= 64);    // a Buffer's

/// The fittest kernel of this precision.
template <typename Real> const Kernel<Real> &choose_schnet_kernel()
{
  if constexpr (sizeof(Real) == sizeof(float))
    return choose_kernel<Kernel<float>>(MLSEL_KERNELS(kernel_float));
  else
    return choose_kernel<Kernel<double>>(MLSEL_KERNELS(kernel_double));
}

inline Activation activation(const std::string &name)
{
  if (name == "shifted_softplus") return Activation::shifted_softplus;
  if (name == "silu") return Activation::silu;
  if (name == "tanh") return Activation::tanh;
  return Activation::identity;
}

/// A linear layer y = x A + b and its transpose, packed.
template <typename Real> struct Dense {
  int n_in = 0, n_out = 0;
  Buffer<Real> matrix, transposed, bias;

  /// weight: n_out × n_in, as torch keeps it.
  Dense(const std::vector<double> &weight, int n_in_, const std::vector<double> *b)
      : n_in(n_in_), n_out(static_cast<int>(weight.size()) / n_in_)
  {
    std::vector<Real> forward(weight.size()), back(weight.size());
    for (int out = 0; out < n_out; out++)
      for (int in = 0; in < n_in; in++) {
        const Real value = static_cast<Real>(weight[static_cast<size_t>(out) * n_in + in]);
        forward[static_cast<size_t>(in) * n_out + out] = value;
        back[static_cast<size_t>(out) * n_in + in] = value;
      }
    matrix.need(static_cast<size_t>(n_in) * padded<Real>(n_out));
    transposed.need(static_cast<size_t>(n_out) * padded<Real>(n_in));
    bias.need(padded<Real>(n_out));
    pack(forward.data(), n_in, n_out, matrix.get());
    pack(back.data(), n_out, n_in, transposed.get());
    if (b)
      for (int out = 0; out < n_out; out++) bias.get()[out] = static_cast<Real>((*b)[out]);
  }
};

}    // namespace mlsel
#endif
