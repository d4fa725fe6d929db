#include "gap_channels.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>

namespace mlsel {
namespace {

/// QUIP's random numbers: Park and Miller's (Comm. ACM 31, 1192 (1988)) from the hundredth after
/// the seed, which is not 0, and of a normal distribution by Marsaglia's polar method.
class QuipRandom {
 public:
  explicit QuipRandom(int seed) : state_(seed)
  {
    for (int k = 0; k < 100; k++) next();
  }

  double normal()
  {
    double v, square = 2;
    while (square > 1) {
      v = 2 * uniform() - 1;
      const double w = 2 * uniform() - 1;
      square = v * v + w * w;
    }
    return v * std::sqrt(-2 * std::log(square) / square);
  }

 private:
  static constexpr int32_t A = 16807, Q = 127773, R = 2836, M = 2147483647;

  int32_t next()
  {
    state_ = A * (state_ % Q) - R * (state_ / Q);
    if (state_ < 0) state_ += M;
    return state_;
  }
  double uniform() { return static_cast<double>(next()) / M; }

  int32_t state_;
};

}    // namespace

SoapChannels::SoapChannels(const SoapTerm &term)
{
  is_symmetric = term.n_mixed ? term.is_mix_symmetric : term.nu_r != 1 && term.nu_s != 1;
  is_mixed = term.n_mixed || term.nu_r < 2 || term.nu_s < 2;
  if (term.n_mixed)
    mix(term);
  else
    choose(term);
  if (term.turbo.is_used() && is_symmetric)
    couple_turbo(term);
  else if (!term.is_coupled && term.mixes_radial != term.mixes_species)
    couple_mixed(term);
  else
    couple(term);
  n_numbers = static_cast<int>(products.size()) * (term.l_max + 1);
  is_plain = !is_mixed && static_cast<int>(products.size()) == n[0] * (n[0] + 1) / 2;
  if (term.transformation.empty()) return;
  is_plain = false;
  n_numbers = 0;
  for (size_t k = 0; k < term.transformation.size(); k += 3)
    n_numbers = std::max(n_numbers, static_cast<int>(term.transformation[k]) + 1);
}

/// Radial functions and species are told apart in so many of the densities; else they are summed.
void SoapChannels::choose(const SoapTerm &term)
{
  const int n_species = static_cast<int>(term.species.size());
  for (const int density : {0, 1}) {
    const bool has_radial = term.nu_r > density, has_species = term.nu_s > density;
    const int n_radial = has_radial ? term.n_max : 1;
    n[density] = n_radial * (has_species ? n_species : 1);
    for (int s = 0; s < n_species; s++)
      for (int k = 0; k < term.n_max; k++)
        parts[density].push_back(
            {(has_species ? s : 0) * n_radial + (has_radial ? k : 0), s * term.n_max + k});
  }
}

/// Sums over species, radial functions or both, whose weights QUIP draws from its own generator,
/// with a seed for each element, or for n_max.
void SoapChannels::mix(const SoapTerm &term)
{
  const int n_species = static_cast<int>(term.species.size()), n_mixed = term.n_mixed;
  std::vector<double> weights(n_mixed);
  for (const int density : {0, 1}) {
    n[density] =
        n_mixed * (term.mixes_radial ? 1 : term.n_max) * (term.mixes_species ? 1 : n_species);
    for (int s = 0; s < n_species; s++) {
      QuipRandom random(term.mix_seed(s, density));
      for (int k = 0; k < term.n_max; k++) {
        if (term.mixes_radial || k == 0)
          for (double &weight : weights) weight = random.normal();
        for (int m = 0; m < n_mixed; m++) {
          const int to = !term.mixes_radial ? m * term.n_max + k
              : term.mixes_species          ? m
                                            : s * n_mixed + m;
          parts[density].push_back({to, s * term.n_max + k, weights[m]});
        }
      }
    }
  }
}

void SoapChannels::couple(const SoapTerm &term)
{
  for (int a = 0; a < n[0]; a++)
    for (int b = 0; b < (is_symmetric ? a + 1 : n[1]); b++)
      if ((!term.is_diagonal || a % term.n_max == b % term.n_max) && (term.is_coupled || a == b))
        products.push_back({a, b});
}

/// Each mixed channel with itself alone, but all radial functions or species that are not mixed.
void SoapChannels::couple_mixed(const SoapTerm &term)
{
  across = static_cast<double>(std::numbers::sqrt2_v<float>) / std::numbers::sqrt2;    // as in QUIP
  const int n_mixed = term.n_mixed;
  if (term.mixes_species) {
    for (int m = 0; m < n_mixed; m++)
      for (int a = 0; a < term.n_max; a++)
        for (int b = 0; b < (is_symmetric ? a + 1 : term.n_max); b++)
          products.push_back({m * term.n_max + a, m * term.n_max + b});
    return;
  }
  const int n_species = static_cast<int>(term.species.size());
  for (int a = 0; a < n_species; a++)
    for (int b = 0; b < (is_symmetric ? a + 1 : n_species); b++)
      for (int m = 0; m < n_mixed; m++) products.push_back({a * n_mixed + m, b * n_mixed + m});
}

/// In soap_turbo's order. Species may have fewer radial functions than the expansion has room for.
void SoapChannels::couple_turbo(const SoapTerm &term)
{
  const auto is_there = [&](int channel) {
    return is_mixed || channel % term.n_max < term.turbo.n_max[channel / term.n_max];
  };
  const auto is_first = [&](int channel) { return channel % term.n_max == 0; };
  for (int b = 0; b < n[0]; b++)
    for (int a = b; a < n[0]; a++)
      if (is_there(a) && is_there(b) && (!term.is_trivial || is_first(a) || is_first(b)))
        products.push_back({a, b});
}

}    // namespace mlsel
