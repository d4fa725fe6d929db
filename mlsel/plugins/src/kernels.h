// The choice of a kernel: each is compiled for several kinds of vector instructions, as namespaces
// of the same name.
#ifndef MLSEL_KERNELS_H
#define MLSEL_KERNELS_H

#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <stdexcept>
#include <string>

namespace mlsel {

/// Whether this machine runs what is compiled for these instructions.
inline bool runs_here(const char *instructions)
{
#if defined(__x86_64__)
  if (!std::strcmp(instructions, "avx512"))
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("fma");
  if (!std::strcmp(instructions, "avx2"))
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
  return !std::strcmp(instructions, "baseline") || !std::strcmp(instructions, "native");
}

/// The first kernel that this machine runs, or the one that MLSEL_KERNEL asks for. What is compiled
/// for this machine alone is no choice.
template <typename Kernel>
const Kernel &choose_kernel(std::initializer_list<const Kernel *> fittest_first)
{
  const bool is_native = !std::strcmp((*fittest_first.begin())->name, "native");
  const char *wanted = is_native ? nullptr : std::getenv("MLSEL_KERNEL");
  for (const Kernel *kernel : fittest_first)
    if (runs_here(kernel->name) && (!wanted || !std::strcmp(wanted, kernel->name))) return *kernel;
  throw std::runtime_error(std::string("MLSEL_KERNEL asks for ") + (wanted ? wanted : "nothing") +
                           ", which this machine or this build does not have");
}

}    // namespace mlsel

// What this build has of a kernel, for choose_kernel.
#ifdef MLSEL_KERNEL_AVX512
#define MLSEL_AVX512(KERNEL) &avx512::KERNEL,
#else
#define MLSEL_AVX512(KERNEL)
#endif
#ifdef MLSEL_KERNEL_AVX2
#define MLSEL_AVX2(KERNEL) &avx2::KERNEL,
#else
#define MLSEL_AVX2(KERNEL)
#endif
#ifdef MLSEL_KERNEL_NATIVE
#define MLSEL_KERNELS(KERNEL) {&native::KERNEL}
#else
#define MLSEL_KERNELS(KERNEL) {MLSEL_AVX512(KERNEL) MLSEL_AVX2(KERNEL) & baseline::KERNEL}
#endif

#endif
