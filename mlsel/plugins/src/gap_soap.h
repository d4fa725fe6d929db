// A term of a GAP over one SOAP descriptor.
#ifndef MLSEL_GAP_SOAP_H
#define MLSEL_GAP_SOAP_H

#include <array>
#include <memory>
#include <vector>

#include "buffer.h"
#include "gap_channels.h"
#include "gap_potential.h"
#include "gap_radial_table.h"
#include "gap_variance.h"

namespace mlsel {

/// A block's neighbours and what is kept of them between the phases of an evaluation.
struct SoapWorkspace {
  // by lane of a vector, for all central atoms one behind the other; starts: where each begins
  std::vector<double> x, y, z, inverse_r, cutoff, cutoff_slope, place;
  std::vector<int> knot, pair, species, starts;
  std::vector<int> near[MAX_ELEMENTS];    // an atom's neighbours by species
  std::vector<double> distances;

  Buffer<double> harmonics, radial, slopes;                         // of the neighbours
  Buffer<double> coefficients, mixed, power, dots, power_slopes;    // of the central atoms
  Buffer<double> triangle, triangle_slopes;                         // of one, with all products
  std::vector<double> scales, pulls;
  std::vector<double> covariances, variances;    // only where variances are wanted
  Buffer<double> root;
  Buffer<double> scratch, mixed_gradients, coefficient_gradients, gradients;    // of one atom
};

class GapSoap {
 public:
  GapSoap(const SoapTerm &term, const GapKernel &kernel);

  bool is_centre(int number) const { return centres_[number]; }

  /// Power spectra of a block's central atoms into `work`, and the factors that make their
  /// length 1.
  void describe(const GapEnvironments &, const int *numbers, SoapWorkspace &) const;

  /// One of them, not normalised: [l][a ≥ b] of channels, if all products count. A number of it
  /// counts √(weight[l]), twice where a ≠ b, in what QUIP calls the descriptor.
  const double *power_of(const SoapWorkspace &work, int atom) const
  {
    return work.power.get() + static_cast<size_t>(atom) * power_stride_;
  }
  const SoapLayout &layout() const { return spectrum_; }

  /// From derivatives by an atom's power spectrum, as GapKernel::spectrum_adjoint has them, to
  /// those by its neighbours' x, y and z: three rows of lanes, whose pairs are in `work` from
  /// starts[atom] on, −1 for lanes that stand for nobody. After `describe`.
  const double *to_neighbours(SoapWorkspace &, int atom, const double *slopes, double scale,
                              double pull) const;

  /// See GapPotential::evaluate.
  void evaluate(const GapEnvironments &, const int *numbers, SoapWorkspace &, GapTotals &) const;

  /// See GapPotential::prepare_variances.
  void prepare_variance(const SoapTerm &term)
  {
    variance_ = std::make_unique<GapVariance>(term, soap_covariances(term), term.cutoffs);
  }

 private:
  void make_factors(const SoapTerm &term);
  void make_radial(const SoapTerm &term);
  void make_mixture(const SoapTerm &term, const SoapChannels &channels);
  std::vector<int> make_numbers(const SoapTerm &term, const SoapChannels &channels);
  void pack_points(const SoapTerm &term, const std::vector<int> &places);

  // the phases of an evaluation
  void gather_neighbours(const GapEnvironments &, const int *numbers, SoapWorkspace &) const;
  void add_lane(const GapEnvironments &, int pair, SoapWorkspace &) const;
  void reserve(int n_atoms, SoapWorkspace &) const;
  void apply_covariance(const GapEnvironments &, SoapWorkspace &, GapTotals &) const;
  void push_back(const GapEnvironments &, SoapWorkspace &, GapTotals &) const;

  double weight(double r, int species, double &slope) const;
  SoapNeighbours neighbours_of(const SoapWorkspace &, int atom) const;
  SoapExpansion expansion_of(const SoapWorkspace &, int atom) const;

  double spectrum(SoapWorkspace &, int atom) const;
  double *mixed_of(SoapWorkspace &, int atom) const;

  /// A number of the power spectrum is a sum over the triangle of products.
  struct Kept {
    int to, from;
    double factor, pull;    // pull: with what the number and the product count in the length
  };
  const double *spread(const double *kept, double Kept::*by, Buffer<double> &triangle) const;

  const GapKernel &kernel_;
  SoapLayout layout_{};      // of the expansion
  SoapLayout spectrum_{};    // of the power spectrum: the same, but for compressed ones

  // Channels of the power spectrum are sums of the expansion's; where its two densities differ,
  // those of one behind those of the other, and only products across count.
  std::vector<SoapChannels::Part> mixture_;    // none: they are the expansion's
  std::vector<Kept> kept_;                     // none: the triangle is the power spectrum
  std::vector<double> counts_;                 // of its numbers' squares in its length's
  int n_power_ = 0;
  double cutoff_, width_ = 0, zeta_ = 0, shortest_ = 0;
  bool normalised_ = true, in_all_species_ = false;
  int n_sparse_ = 0;
  int power_stride_ = 0, dot_stride_ = 0;    // of a central atom's row
  size_t n_coefficients_ = 0, n_mixed_ = 0, n_radial_ = 0;
  std::array<int, MAX_ELEMENTS + 1> species_;
  std::array<bool, MAX_ELEMENTS + 1> centres_;
  std::vector<double> factor_, up_, down_, weight_, centre_, constants_, weights_;
  std::vector<double> amplitude_scaling_;    // soap_turbo's, by species; of others none
  RadialTable table_;
  Buffer<double> points_across_, points_along_;
  double delta_square_ = 1;
  std::unique_ptr<GapVariance> variance_;
};

}    // namespace mlsel
#endif
