// The GAPs that our own evaluator covers: sums over SOAP descriptors (Bartók, Kondor, Csányi, Phys.
// Rev. B 87, 184115 (2013)) with the polynomial kernel, over distances of pairs and over triplets,
// and a core potential of splines.
#ifndef MLSEL_GAP_FILE_H
#define MLSEL_GAP_FILE_H

#include <array>
#include <stdexcept>
#include <string>
#include <vector>

namespace mlsel {

constexpr int MAX_ELEMENTS = 118;
constexpr int ANY_ELEMENT = 0;

/// What the terms of all descriptors have.
struct GapTerm {
  double cutoff = 0, transition_width = 0.5;
  double delta = 1, mean = 0;    // k = delta² K + mean²
  int n_sparse = 0, n_dimensions = 1;
  std::vector<double> alphas;     // with the sparse cutoffs
  std::vector<double> cutoffs;    // those, which the variance needs apart
  std::vector<double> points;     // n_sparse × n_dimensions
};

/// The density of a soap_turbo (Caro, Phys. Rev. B 100, 024112 (2019)), species by species: each
/// neighbour's Gaussian has a width along its direction, one across, and an amplitude.
struct TurboDensity {
  enum Basis { polynomials, with_gaussian };    // poly3 and poly3gauss
  int basis = polynomials;
  std::vector<int> n_max;    // none: the density is not soap_turbo's
  std::vector<double> along, along_scaling, across, across_scaling;    // widths; and Å more per Å
  std::vector<double> amplitude_scaling, central_weight;
  double filter_sharpness = 4;    // widths of its Gaussian between the two cutoffs
  int radial_enhancement = 0;
  bool is_used() const { return !n_max.empty(); }
};

/// A SOAP descriptor with the polynomial kernel.
struct SoapTerm : GapTerm {
  std::vector<int> centres, species;    // atomic numbers; ANY_ELEMENT alone: all are the same
  int n_max = 0, l_max = 0;
  double atom_sigma = 0, basis_error_exponent = 10, central_weight = 1, covariance_sigma0 = 0;
  bool central_in_all_species = false;    // or in the density of the centre's own element alone
  bool is_normalised = true, has_two_l_plus_one = true;
  double zeta = 1;

  // A compressed power spectrum (Darby, Kermode, Csányi, npj Comput. Mater. 8, 166 (2022)): in how
  // many of its two densities radial functions and species are told apart.
  int nu_r = 2, nu_s = 2;
  bool is_diagonal = false;    // the same radial function in both
  bool is_coupled = true;      // or each channel with itself alone

  // Mixed channels: so many sums over radial functions, species or both, with weights by chance
  // (Darby and others, Phys. Rev. Lett. 131, 028001 (2023)).
  int n_mixed = 0, mix_shift = 0;    // the latter: of the seeds of those weights
  bool mixes_radial = false, mixes_species = false;
  bool is_mix_symmetric = false;    // the same in both densities

  /// The seed of those of a species, by its place, in a density.
  int mix_seed(int of_species, int density) const
  {
    return (mixes_species ? species[of_species] : n_max) + mix_shift + 200 * (density + 1);
  }

  TurboDensity turbo;         // then n_max is the largest of its own
  bool is_trivial = false;    // only products with the first radial function of a species

  // soap_turbo's compress_file: to a number of the descriptor, from a number of the power spectrum,
  // and the factor; three each. None: they are the same.
  std::vector<double> transformation;
};

/// A distance_2b with the squared exponential, or a distance_Nb of order 2; its sparse points are
/// distances.
struct PairTerm : GapTerm {
  int z1 = ANY_ELEMENT, z2 = ANY_ELEMENT;
  double theta = 1, share = 1;    // of the energy that is each of the two atoms'; distance_2b: 1
};

/// An angle_3b, (r_ij + r_ik, (r_ij − r_ik)², r_jk), or a distance_Nb of order 3, the distances of
/// the three atoms that follow each other by atomic number, but the centre first in compact ones.
struct TripletTerm : GapTerm {
  enum Kind { angle, compact_distances, distances };
  int kind = angle;
  std::vector<int> elements;         // angle: of the centre and its two neighbours; else sorted
  std::vector<double> theta;         // 3
  bool is_compact_kernel = false;    // piecewise polynomial, else the squared exponential
  std::vector<int> permutations;    // 3 each, from 0; the kernel is summed over them and normalised
};

/// Pair potentials and embedding functions as cubic splines, QUIP's IP Glue.
struct GlueTerm {
  struct Spline {
    std::vector<double> x, y;
    double slope_first = 0, slope_last = 0;    // 1e30 and more: no curvature there
  };
  std::vector<int> elements;
  std::vector<Spline> densities, embeddings;    // by element, of the neighbour and of the centre
  std::vector<int> are_splines;                 // densities; else they are poly (cutoff − r)³
  std::vector<Spline> pairs;                    // by element and element; without knots: none
  double cutoff() const;
};

struct GapFile {
  std::array<double, MAX_ELEMENTS + 1> e0{};    // eV, by atomic number
  std::vector<SoapTerm> soaps;
  std::vector<PairTerm> pairs;
  std::vector<TripletTerm> triplets;
  std::vector<GlueTerm> cores;    // at most one
  double cutoff() const;

  /// "2 SOAP, 3 pair and 4 triplet terms", for the log.
  std::string summary() const;

  /// All of it as numbers, and back: for other processes.
  std::vector<double> numbers() const;
  static GapFile from_numbers(const std::vector<double> &numbers);
};

/// The file may be a potential, but not one that we evaluate ourselves.
class NotCovered : public std::runtime_error {
  using std::runtime_error::runtime_error;
};

}    // namespace mlsel
#endif
