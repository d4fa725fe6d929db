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
  // mixed channels have weights by chance that the file does not tell: QUIP draws them anew
  for (const char *name : {"average", "Z_mix", "R_mix", "sym_mix"})
    if (words.flag(name, false)) throw NotCovered(std::string("has a descriptor with ") + name);
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
