#include "gap_radial_table.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>

#include "gap_table.h"

namespace mlsel {
namespace {

// Radial functions and their slopes, relative to the largest: the tables' knots are as close as
// it takes.
constexpr double TABLE_ACCURACY = 1e-12;
constexpr int MIN_INTERVALS = 128, MAX_INTERVALS = 8192;

}    // namespace

void RadialTable::make(const std::vector<std::unique_ptr<RadialFunctions>> &functions,
                       const SoapTerm &term, int n_radial)
{
  const size_t n_row = 6 * static_cast<size_t>(term.l_max + 1) * n_radial;
  for (n_intervals_ = MIN_INTERVALS;; n_intervals_ *= 2) {
    inverse_spacing_ = n_intervals_ / term.cutoff;
    species_.clear();
    int n_rows = 0;
    for (const auto &one : functions) {
      species_.push_back({n_rows, one->jumps()});
      n_rows += n_intervals_ + static_cast<int>(species_.back().jumps.size());
    }
    double *rows = rows_.need(n_rows * n_row);
    bool is_right = true;
    for (size_t s = 0; s < functions.size(); s++)
      is_right &= fill(*functions[s], term, n_radial, rows + species_[s].first * n_row);
    if (is_right) return;
    if (2 * n_intervals_ > MAX_INTERVALS)
      throw std::runtime_error("has a descriptor whose radial functions are too sharp for a table "
                               "of " +
                               std::to_string(MAX_INTERVALS) +
                               " intervals up to its cutoff: use pair_style quip library");
  }
}

/// One species' rows; whether they are right.
bool RadialTable::fill(const RadialFunctions &functions, const SoapTerm &term, int n_radial,
                       double *row)
{
  const int n = (term.l_max + 1) * term.n_max, n_row = (term.l_max + 1) * n_radial;
  const double h = term.cutoff / n_intervals_;
  std::vector<double> ends[2][3], middle[3];
  for (auto &one : ends)
    for (auto &numbers : one) numbers.resize(n);
  for (auto &numbers : middle) numbers.resize(n);
  double error = 0, slope_error = 0, largest = 0, largest_slope = 0;
  const std::vector<double> jumps = functions.jumps();
  for (int piece = 0, knot = 0; piece <= static_cast<int>(jumps.size()); piece++) {
    const bool is_last = piece == static_cast<int>(jumps.size());
    const int end = is_last ? n_intervals_ - 1 : interval(jumps[piece]);
    const auto evaluate = [&](double r, std::vector<double> *out) {
      functions.evaluate(r, piece, out[0].data(), out[1].data(), out[2].data());
    };
    evaluate(knot * h, ends[0]);
    for (; knot <= end; knot++, row += 6 * n_row) {
      const double t = QUINTIC_TEST, r = (knot + t) * h;
      evaluate((knot + 1) * h, ends[1]);
      evaluate(r, middle);
      for (int k = 0; k < n; k++) {
        const int l = k / term.n_max, at = l * n_radial + k % term.n_max;
        double c[6], slope = 0;
        quintic(h, ends[0][0][k], ends[0][1][k], ends[0][2][k], ends[1][0][k], ends[1][1][k],
                ends[1][2][k], c);
        for (int i = 0; i < 6; i++) row[i * n_row + at] = c[i];
        const double value = quintic_value(c, t, slope);
        const double power = std::pow(r, l);
        largest = std::max(largest, std::abs(middle[0][k]) * power);
        error = std::max(error, std::abs(value - middle[0][k]) * power);
        largest_slope = std::max(largest_slope, std::abs(middle[1][k]) * power);
        slope_error = std::max(slope_error, std::abs(slope / h - middle[1][k]) * power);
      }
      std::swap(ends[0], ends[1]);
    }
    knot = end;
  }
  return error <= TABLE_ACCURACY * largest && slope_error <= TABLE_ACCURACY * largest_slope;
}

int RadialTable::interval(double r) const
{
  return std::min(static_cast<int>(r * inverse_spacing_), n_intervals_ - 1);
}

int RadialTable::row(int species, double r, double &place) const
{
  const Species &one = species_[species_.size() > 1 ? species : 0];
  const int knot = interval(r);
  place = r * inverse_spacing_ - knot;
  int piece = 0;
  for (const double jump : one.jumps) piece += r >= jump;
  return one.first + knot + piece;
}

}    // namespace mlsel
