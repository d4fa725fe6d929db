#include "gap_pair.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "gap_table.h"

namespace mlsel {
namespace {

constexpr double TABLE_ACCURACY = 1e-13;    // relative to the largest
constexpr int MIN_INTERVALS = 256, MAX_INTERVALS = 8192;
constexpr double SAME_PLACE = 1e-10;    // Å

/// Value and two derivatives by r, of the sum without the cutoff function. Weights of 10⁴ eV cancel
/// each other, hence the digits.
struct Jet {
  long double value = 0, slope = 0, curvature = 0;
};

Jet evaluate_exactly(const PairTerm &term, long double r)
{
  Jet sum;
  const long double scale = static_cast<long double>(term.delta) * term.delta * term.share;
  const long double constant = static_cast<long double>(term.mean) * term.mean * term.share;
  const long double inverse = 1 / (static_cast<long double>(term.theta) * term.theta);
  for (int s = 0; s < term.n_sparse; s++) {
    const long double d = (r - term.points[s]) * inverse;
    const long double one = term.alphas[s] * scale * std::exp(-(r - term.points[s]) * d / 2);
    sum.value += one + term.alphas[s] * constant;
    sum.slope -= one * d;
    sum.curvature += one * (d * d - inverse);
  }
  return sum;
}

}    // namespace

GapPair::GapPair(const PairTerm &term)
    : z1_(term.z1), z2_(term.z2), cutoff_(term.cutoff), width_(term.transition_width)
{
  make_table(term);
}

void GapPair::make_table(const PairTerm &term)
{
  for (int n = MIN_INTERVALS;; n *= 2) {
    const long double h = static_cast<long double>(term.cutoff) / n;
    table_.resize(6 * static_cast<size_t>(n));
    double error = 0, slope_error = 0, largest = 0, largest_slope = 0;
    Jet left = evaluate_exactly(term, 0);
    for (int knot = 0; knot < n; knot++) {
      const Jet right = evaluate_exactly(term, (knot + 1) * h);
      double *c = &table_[6 * static_cast<size_t>(knot)], slope = 0;
      quintic(h, left.value, left.slope, left.curvature, right.value, right.slope, right.curvature,
              c);
      const Jet exact = evaluate_exactly(term, (knot + QUINTIC_TEST) * h);
      const auto exact_value = static_cast<double>(exact.value);
      const auto exact_slope = static_cast<double>(exact.slope * h);
      const double value = quintic_value(c, QUINTIC_TEST, slope);
      largest = std::max(largest, std::abs(exact_value));
      largest_slope = std::max(largest_slope, std::abs(exact_slope));
      error = std::max(error, std::abs(value - exact_value));
      slope_error = std::max(slope_error, std::abs(slope - exact_slope));
      left = right;
    }
    n_intervals_ = n;
    inverse_spacing_ = n / term.cutoff;
    if ((error <= TABLE_ACCURACY * largest && slope_error <= TABLE_ACCURACY * largest_slope) ||
        2 * n > MAX_INTERVALS)
      return;
  }
}

void GapPair::prepare_variance(const PairTerm &term)
{
  term_ = term;
  variance_ = std::make_unique<GapVariance>(term, pair_covariances(term));
}

void GapPair::add_variances(const GapKernel &kernel, const GapEnvironments &block,
                            const int *numbers, PairWorkspace &work, double *variances) const
{
  const auto n = static_cast<size_t>(term_.n_sparse);
  for (size_t k = 0; k < block.atoms.size(); k++) {
    work.covariances.clear();
    work.cutoffs.clear();
    for (int pair = block.first[k]; pair < block.first[k + 1]; pair++) {
      const double *v = &block.vectors[3 * static_cast<size_t>(pair)];
      const double square = v[0] * v[0] + v[1] * v[1] + v[2] * v[2];
      if (!is_pair(block.atomic_number, numbers[block.neighbours[pair]]) ||
          !(square < cutoff_ * cutoff_))
        continue;
      const double r = std::sqrt(square);
      double slope = 0;
      work.cutoffs.push_back(cutoff_function(r, cutoff_, width_, slope));
      work.covariances.resize(work.covariances.size() + n);
      pair_covariances(term_, r, &work.covariances[work.covariances.size() - n]);
    }
    const auto n_near = static_cast<int>(work.cutoffs.size());
    work.variances.resize(n_near);
    variance_->find(kernel, n_near, work.covariances.data(), term_.n_sparse, work.root,
                    work.variances.data());
    for (int i = 0; i < n_near; i++)
      variances[block.atoms[k]] +=
          term_.share * work.variances[i] * work.cutoffs[i] * work.cutoffs[i];
  }
}

void GapPair::evaluate(const GapEnvironments &block, const int *numbers, GapTotals &totals) const
{
  bool is_seen[MAX_ELEMENTS + 1] = {};
  for (int z = 1; z <= MAX_ELEMENTS; z++) is_seen[z] = is_pair(block.atomic_number, z);
  double virial[9] = {};
  for (size_t k = 0; k < block.atoms.size(); k++) {
    double energy = 0, centre[3] = {};
    for (int pair = block.first[k]; pair < block.first[k + 1]; pair++) {
      const size_t j = block.neighbours[pair];
      const double *v = &block.vectors[3 * static_cast<size_t>(pair)];
      const double square = v[0] * v[0] + v[1] * v[1] + v[2] * v[2];
      if (!is_seen[numbers[j]] || !(square < cutoff_ * cutoff_)) continue;
      if (square < SAME_PLACE * SAME_PLACE)
        throw std::runtime_error("two atoms are at the same place");
      const double r = std::sqrt(square), where = r * inverse_spacing_;
      const int knot = std::min(static_cast<int>(where), n_intervals_ - 1);
      double slope = 0;
      const double sum = quintic_value(&table_[6 * static_cast<size_t>(knot)], where - knot, slope);
      double df = 0;
      const double f = cutoff_function(r, cutoff_, width_, df);
      energy += sum * f / 2;
      if (totals.energies) totals.energies[j] += sum * f / 2;
      slope = (slope * inverse_spacing_ * f + sum * df) / r;
      for (int a = 0; a < 3; a++) {
        const double g = slope * v[a];
        centre[a] += g;
        if (totals.forces) totals.forces[3 * j + a] -= g;
        for (int b = 0; b < 3; b++) virial[3 * a + b] -= v[b] * g;
        if (totals.virials)
          for (int b = 0; b < 3; b++) totals.virials[9 * j + 3 * a + b] -= v[b] * g;
      }
    }
    const size_t i = block.atoms[k];
    if (totals.energies) totals.energies[i] += energy;
    if (totals.forces)
      for (int a = 0; a < 3; a++) totals.forces[3 * i + a] += centre[a];
  }
  for (int a = 0; a < 9; a++) totals.virial[a] += virial[a];
}

}    // namespace mlsel
