#include "gap_channels.h"

namespace mlsel {

SoapChannels::SoapChannels(const SoapTerm &term)
{
  is_symmetric = term.nu_r != 1 && term.nu_s != 1;
  is_mixed = term.nu_r < 2 || term.nu_s < 2;
  choose(term);
  if (term.turbo.is_used() && is_symmetric)
    couple_turbo(term);
  else
    couple(term);
  is_plain = !is_mixed && static_cast<int>(products.size()) == n[0] * (n[0] + 1) / 2;
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

void SoapChannels::couple(const SoapTerm &term)
{
  for (int a = 0; a < n[0]; a++)
    for (int b = 0; b < (is_symmetric ? a + 1 : n[1]); b++)
      if ((!term.is_diagonal || a % term.n_max == b % term.n_max) && (term.is_coupled || a == b))
        products.push_back({a, b});
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
