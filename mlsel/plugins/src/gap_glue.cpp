#include "gap_glue.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <stdexcept>

namespace mlsel {
namespace {

constexpr double NO_CURVATURE = 0.99e30;    // QUIP's mark, a slope of that and more
constexpr double SAME_PLACE = 1e-10;        // Å

}    // namespace

CubicSpline::CubicSpline(const GlueTerm::Spline &points)
{
  const size_t n = points.x.size();
  if (!n) return;
  std::vector<size_t> order(n);
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return points.x[a] < points.x[b]; });
  for (size_t k : order) {
    x_.push_back(points.x[k]);
    y_.push_back(points.y[k]);
  }
  slope_first_ = points.slope_first;
  slope_last_ = points.slope_last;
  // a tridiagonal system for the second derivatives: rows of (before, itself, after)
  std::vector<double> after(n, 0.0);
  curvatures_.assign(n, 0.0);
  const auto secant = [this](size_t k) { return (y_[k + 1] - y_[k]) / (x_[k + 1] - x_[k]); };
  if (n == 1) return;
  if (slope_first_ < NO_CURVATURE) {
    after[0] = 0.5;
    curvatures_[0] = 3 * (secant(0) - slope_first_) / (x_[1] - x_[0]);
  }
  for (size_t k = 1; k + 1 < n; k++) {
    const double width = x_[k + 1] - x_[k - 1], before = (x_[k] - x_[k - 1]) / width;
    const double pivot = 2 - before * after[k - 1];
    after[k] = (1 - before) / pivot;
    curvatures_[k] =
        (6 * (secant(k) - secant(k - 1)) / width - before * curvatures_[k - 1]) / pivot;
  }
  if (slope_last_ < NO_CURVATURE) {
    const double right = 6 * (slope_last_ - secant(n - 2)) / (x_[n - 1] - x_[n - 2]);
    curvatures_[n - 1] = (right - curvatures_[n - 2]) / (2 - after[n - 2]);
  }
  for (size_t k = n - 1; k-- > 0;) curvatures_[k] -= after[k] * curvatures_[k + 1];
  double slope = 0;
  if (!(slope_first_ < NO_CURVATURE)) {
    value(x_[0], slope);
    slope_first_ = slope;
  }
  if (!(slope_last_ < NO_CURVATURE)) {
    value(x_[n - 1], slope);
    slope_last_ = slope;
  }
}

double CubicSpline::value(double x, double &slope) const
{
  if (x < x_.front() || x_.size() == 1) {
    slope = slope_first_;
    return y_.front() + (x - x_.front()) * slope;
  }
  if (x > x_.back()) {
    slope = slope_last_;
    return y_.back() + (x - x_.back()) * slope;
  }
  const auto above = std::upper_bound(x_.begin() + 1, x_.end() - 1, x);
  const size_t k = above - x_.begin() - 1;
  const double h = x_[k + 1] - x_[k], a = (x_[k + 1] - x) / h, b = 1 - a;
  const double c = curvatures_[k], d = curvatures_[k + 1];
  slope = (y_[k + 1] - y_[k]) / h + ((1 - 3 * a * a) * c + (3 * b * b - 1) * d) * h / 6;
  return a * y_[k] + b * y_[k + 1] + ((a * a * a - a) * c + (b * b * b - b) * d) * h * h / 6;
}

GapGlue::GapGlue(const GlueTerm &term) : are_splines_(term.are_splines)
{
  kind_.fill(-1);
  for (size_t k = 0; k < term.elements.size(); k++) kind_[term.elements[k]] = static_cast<int>(k);
  for (const auto &one : term.densities) densities_.emplace_back(one);
  for (const auto &one : term.embeddings) embeddings_.emplace_back(one);
  for (const auto &one : term.pairs) pairs_.emplace_back(one);
  // the factor of (cutoff − r)³ by least squares
  for (const auto &one : term.densities) {
    const double reach = *std::max_element(one.x.begin(), one.x.end());
    double above = 0, below = 0;
    for (size_t k = 0; k < one.x.size(); k++) {
      const double cube = std::pow(reach - one.x[k], 3);
      above += one.y[k] * cube;
      below += cube * cube;
    }
    factors_.push_back(above / below);
  }
}

double GapGlue::density(int kind, double r, double &slope) const
{
  if (are_splines_[kind]) return densities_[kind].value(r, slope);
  const double rest = densities_[kind].last() - r;
  slope = -3 * factors_[kind] * rest * rest;
  return factors_[kind] * rest * rest * rest;
}

void GapGlue::evaluate(const GapEnvironments &block, const int *numbers, GapTotals &totals) const
{
  const int own = kind_[block.atomic_number];
  if (own < 0) return;
  const auto n_kinds = densities_.size();
  std::vector<double> slopes;    // of the energy, by distance: first the densities', then all
  for (size_t k = 0; k < block.atoms.size(); k++) {
    const size_t i = block.atoms[k];
    const int begin = block.first[k], end = block.first[k + 1];
    slopes.assign(end - begin, 0.0);
    double density_sum = 0, energy = 0, by_density = 0;
    for (int pass = 0; pass < 2; pass++) {
      for (int pair = begin; pair < end; pair++) {
        const size_t j = block.neighbours[pair];
        const int other = numbers[j] ? kind_[numbers[j]] : -1;
        if (other < 0) continue;
        const double *v = &block.vectors[3 * static_cast<size_t>(pair)];
        const double r = std::sqrt(v[0] * v[0] + v[1] * v[1] + v[2] * v[2]);
        if (r < SAME_PLACE) throw std::runtime_error("two atoms are at the same place");
        double slope = 0;
        if (pass == 0) {
          if (r < densities_[other].last()) density_sum += density(other, r, slope);
          slopes[pair - begin] = slope;
          continue;
        }
        double total = by_density * slopes[pair - begin];
        const CubicSpline &spline = pairs_[own * n_kinds + other];
        if (r < spline.last()) {
          energy += 0.5 * spline.value(r, slope);
          total += 0.5 * slope;
        }
        for (int a = 0; a < 3; a++) {
          const double g = total * v[a] / r;
          if (totals.forces) {
            totals.forces[3 * i + a] += g;
            totals.forces[3 * j + a] -= g;
          }
          for (int b = 0; b < 3; b++) {
            totals.virial[3 * a + b] -= v[b] * g;
            if (totals.virials) totals.virials[9 * j + 3 * a + b] -= v[b] * g;
          }
        }
      }
      if (pass == 0) energy += embeddings_[own].value(density_sum, by_density);
    }
    if (totals.energies) totals.energies[i] += energy;
  }
}

}    // namespace mlsel
