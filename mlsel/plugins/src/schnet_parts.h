// What the compressed mode is made of: aligned memory, the choice of a kernel, linear layers.
#ifndef MLSEL_SCHNET_PARTS_H
#define MLSEL_SCHNET_PARTS_H

#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#include "schnet_kernel.h"

namespace mlsel {

/// Memory aligned for the kernels; grows, and is zero when it has grown.
template <typename Real> class Buffer {
 public:
  void need(size_t n)
  {
    if (n <= size_) return;
    n += n / 8;
    const size_t bytes = (n * sizeof(Real) + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    void *made = std::aligned_alloc(ALIGNMENT, bytes);
    if (!made) throw std::bad_alloc();
    data_.reset(static_cast<Real *>(made));
    std::memset(made, 0, bytes);
    size_ = n;
  }
  Real *get() const { return data_.get(); }
  size_t size() const { return size_; }

 private:
  struct Free {
    void operator()(Real *data) const { std::free(data); }
  };
  std::unique_ptr<Real, Free> data_;
  size_t size_ = 0;
};

#if defined(__x86_64__)
#define MLSEL_SUPPORTS(feature) __builtin_cpu_supports(feature)
#endif

/// The fittest kernel that this machine runs; MLSEL_KERNEL asks for another.
template <typename Real> const Kernel<Real> &choose_kernel()
{
  struct Choice {
    const char *name;
    bool runs;
    const Kernel<Real> *kernel;
  };
  constexpr bool is_float = sizeof(Real) == sizeof(float);
  const auto pick = [](const Kernel<float> &f, const Kernel<double> &d) {
    if constexpr (is_float) {
      (void) d;
      return &f;
    } else {
      (void) f;
      return &d;
    }
  };
  const Choice choices[] = {
#ifdef MLSEL_KERNEL_AVX512
      {"avx512",
       MLSEL_SUPPORTS("avx512f") && MLSEL_SUPPORTS("avx512dq") && MLSEL_SUPPORTS("avx512vl") &&
           MLSEL_SUPPORTS("avx512bw") && MLSEL_SUPPORTS("fma"),
       pick(avx512::kernel_float, avx512::kernel_double)},
#endif
#ifdef MLSEL_KERNEL_AVX2
      {"avx2", MLSEL_SUPPORTS("avx2") && MLSEL_SUPPORTS("fma"),
       pick(avx2::kernel_float, avx2::kernel_double)},
#endif
      {"baseline", true, pick(baseline::kernel_float, baseline::kernel_double)},
  };
  const char *wanted = std::getenv("MLSEL_KERNEL");
  for (const Choice &choice : choices)
    if (choice.runs && (!wanted || std::string(wanted) == choice.name)) return *choice.kernel;
  throw std::runtime_error(std::string("MLSEL_KERNEL asks for ") + wanted +
                           ", which this machine or this build does not have");
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
