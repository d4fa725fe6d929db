#include "gap_descriptor.h"

#include <algorithm>
#include <cmath>

#include "gap_kernel.h"
#include "gap_words.h"

namespace mlsel {
namespace {

// Versions of GAP (seconds since 1970) that changed what a descriptor means.
constexpr long TWO_L_PLUS_ONE_SINCE = 1423143769;
constexpr long CENTRE_IN_OWN_SPECIES_SINCE = 1426512068;
constexpr long COMPACT_SINCE = 1596837814;

constexpr int MOST_MIXED = 300;    // channels, of which a triangle of products is held

/// Channels that are mixed before they are multiplied.
void read_mixture(Words &words, SoapTerm &term)
{
  term.mixes_radial = words.flag("R_mix", false);
  term.mixes_species = words.flag("Z_mix", false);
  term.is_mix_symmetric = words.flag("sym_mix", false);
  const bool is_mixed = term.mixes_radial || term.mixes_species;
  if (!is_mixed && term.is_mix_symmetric) throw NotCovered("has a descriptor with sym_mix alone");
  if (!is_mixed) return;
  if (term.nu_r != 2 || term.nu_s != 2 || term.is_diagonal)
    throw NotCovered("has a descriptor with several compressions");
  term.n_mixed = words.has("K") ? words.whole("K") : 0;
  const int n_species = static_cast<int>(term.species.size());
  const int n_channels =
      term.n_mixed * (term.mixes_radial ? 1 : term.n_max) * (term.mixes_species ? 1 : n_species);
  if (term.n_mixed < 1 || n_channels > MOST_MIXED)
    throw NotCovered("has a descriptor with K=" + std::to_string(term.n_mixed) + ", " +
                     std::to_string(n_channels) + " mixed channels (1 to " +
                     std::to_string(MOST_MIXED) + " are covered)");
  if (words.has("mix_shift")) term.mix_shift = words.whole("mix_shift");
  for (int s = 0; s < n_species; s++)
    for (const int density : {0, 1})
      if (term.mix_seed(s, density) == 0)
        throw NotCovered("has a descriptor with mix_shift=" + std::to_string(term.mix_shift) +
                         ", from which no weights can be drawn");
}

}    // namespace

std::string descriptor_name(const std::string &line)
{
  const auto pairs = options(line);
  return pairs.empty() || !pairs.front().second.empty() ? "" : pairs.front().first;
}

SoapTerm read_soap(const std::string &path, const std::string &line, long version)
{
  Words words(path, line);
  SoapTerm term;
  term.n_max = words.whole("n_max");
  term.l_max = words.whole("l_max");
  if (term.n_max < 1 || term.n_max > GAP_MAX_N || term.l_max < 0 || term.l_max > GAP_MAX_L)
    throw NotCovered("has n_max=" + std::to_string(term.n_max) + " and l_max=" +
                     std::to_string(term.l_max) + " (up to " + std::to_string(GAP_MAX_N) + " and " +
                     std::to_string(GAP_MAX_L) + " are covered)");
  words.read_cutoff(term);
  term.atom_sigma = words.real("atom_sigma", std::nan(""));
  term.basis_error_exponent = words.real("basis_error_exponent", 10.0);
  term.central_weight = words.real("central_weight", 1.0);
  if (!(term.central_weight > 0)) throw NotCovered("has a descriptor without its centre");
  term.covariance_sigma0 = words.real("covariance_sigma0", 0.0);
  term.is_normalised = words.flag("normalise", true);
  const int n_species = words.has("n_species") ? words.whole("n_species") : 1;
  term.species = words.different_elements("species_Z", n_species);
  term.centres = words.different_elements("Z", words.has("n_Z") ? words.whole("n_Z") : 1);
  term.central_in_all_species = words.flag("central_reference_all_species", n_species == 1) ||
      version < CENTRE_IN_OWN_SPECIES_SINCE;
  term.has_two_l_plus_one = version >= TWO_L_PLUS_ONE_SINCE;
  if (!(term.atom_sigma > 0) || !(term.basis_error_exponent > 0))
    throw NotCovered("has a descriptor with a width that is not positive");

  // of older versions, and without effect at 0
  if (words.real("radial_scaling", 0.0) != 0)
    throw NotCovered("has a descriptor with radial_scaling");
  words.must("cutoff_dexp", "0");
  for (auto [name, order] : {std::pair{"nu_R", &term.nu_r}, {"nu_S", &term.nu_s}}) {
    if (words.has(name)) *order = words.whole(name);
    if (*order < 0 || *order > 2)
      throw NotCovered(std::string("has a descriptor with ") + name + '=' + std::to_string(*order));
  }
  term.is_diagonal = words.flag("diagonal_radial", false);
  term.is_coupled = words.flag("coupling", true);
  const bool is_chosen = term.nu_r != 2 || term.nu_s != 2;
  if (is_chosen + term.is_diagonal + !term.is_coupled > 1)
    throw NotCovered("has a descriptor with several compressions");
  if (words.flag("average", false)) throw NotCovered("has a descriptor with average");
  read_mixture(words, term);
  words.must("radial_basis", "EQUISPACED_GAUSS");
  words.end();
  return term;
}

PairTerm read_pair(const std::string &path, const std::string &line, long version)
{
  Words words(path, line);
  PairTerm term;
  words.read_cutoff(term);
  if (descriptor_name(line) == "distance_Nb") {
    words.whole("order");
    const std::vector<int> elements = words.elements("Z", 2);
    term.z1 = elements[0];
    term.z2 = elements[1];
    if ((term.z1 == ANY_ELEMENT) != (term.z2 == ANY_ELEMENT))
      throw NotCovered("has a descriptor with a wild card among the elements of distance_Nb");
    // else every pair stands there once, not for each of its two atoms
    if (!words.flag("compact_clusters", version >= COMPACT_SINCE)) term.share = 0.5;
  } else {
    term.z1 = words.element("Z1");
    term.z2 = words.element("Z2");
    words.find("compact_clusters");    // a word of distance_Nb's: nothing here
    words.must("n_exponents", "1");
    words.must("exponents", "1");
    words.must("tail_exponent", "0");
    for (const char *name : {"only_intra", "only_inter"})
      if (words.flag(name, false)) throw NotCovered(std::string("has a descriptor with ") + name);
  }
  words.end();
  return term;
}

TripletTerm read_triplet(const std::string &path, const std::string &line, long version)
{
  Words words(path, line);
  TripletTerm term;
  words.read_cutoff(term);
  if (descriptor_name(line) == "distance_Nb") {
    words.whole("order");
    term.elements = words.elements("Z", 3);
    std::sort(term.elements.begin(), term.elements.end());
    if (term.elements.front() == ANY_ELEMENT && term.elements.back() != ANY_ELEMENT)
      throw NotCovered("has a descriptor with a wild card among the elements of distance_Nb");
    term.kind = words.flag("compact_clusters", version >= COMPACT_SINCE)
        ? TripletTerm::compact_distances
        : TripletTerm::distances;
  } else {
    term.elements = {words.element(words.has("Z") ? "Z" : "Z_center"), words.element("Z1"),
                     words.element("Z2")};
  }
  words.end();
  return term;
}

int descriptor_order(const std::string &path, const std::string &line)
{
  Words words(path, line);
  return words.has("order") ? words.whole("order") : 0;
}

}    // namespace mlsel
