// The posterior variance of a GAP's term from its sparse points, as QUIP estimates it.
#ifndef MLSEL_GAP_VARIANCE_H
#define MLSEL_GAP_VARIANCE_H

#include <vector>

#include "buffer.h"
#include "gap_file.h"
#include "gap_kernel.h"

namespace mlsel {

/// δ² + mean² + s² − kᵀ (K + s²)⁻¹ k for an environment of covariances k with the sparse points,
/// which have K among each other; s = VARIANCE_REGULARISATION eV.
class GapVariance {
 public:
  /// K, row by row, without s², and factors of k that its rows lack, if any. Throws
  /// std::runtime_error if it is no covariance.
  GapVariance(const GapTerm &term, std::vector<double> covariances,
              const std::vector<double> &factors = {});

  /// Of n_rows environments; `work` is for one thread. k: rows of n_sparse, k_stride apart.
  void find(const GapKernel &kernel, int n_rows, const double *k, int k_stride,
            Buffer<double> &work, double *variances) const;

 private:
  int n_;
  double own_;
  Buffer<double> root_;    // transposed inverse of Cholesky's factor, in the kernel's strips
};

constexpr double VARIANCE_REGULARISATION = 0.001;

/// K of a term over pairs, and k at a distance.
std::vector<double> pair_covariances(const PairTerm &term);
void pair_covariances(const PairTerm &term, double r, double *k);

/// K of a SOAP term.
std::vector<double> soap_covariances(const SoapTerm &term);

}    // namespace mlsel
#endif
