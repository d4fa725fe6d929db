#include "gap_descriptor.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "gap_kernel.h"
#include "xml_reader.h"

namespace mlsel {
namespace {

// Versions of GAP (seconds since 1970) that changed what a descriptor means.
constexpr long TWO_L_PLUS_ONE_SINCE = 1423143769;
constexpr long CENTRE_IN_OWN_SPECIES_SINCE = 1426512068;
constexpr long COMPACT_SINCE = 1596837814;

/// gap_fit's words in a descriptor's line: they say nothing to a finished potential.
// clang-format off
const std::set<std::string> FITTING_WORDS = {
    "delta", "zeta", "n_sparse", "covariance_type", "sparse_method", "add_species", "f0",
    "config_type_n_sparse", "config_type_sigma", "theta_uniform", "theta_fac", "theta_file",
    "unique_hash_tolerance", "unique_descriptor_tolerance", "sparse_file", "mark_sparse_atoms",
    "print_sparse_index", "cutoff_scale", "cutoff_rate", "K", "mix_shift"};
// clang-format on

/// key=value pairs, where a value may be {several words}; words without a = have no value.
std::vector<std::pair<std::string, std::string>> options(const std::string &line)
{
  std::vector<std::pair<std::string, std::string>> found;
  size_t at = 0;
  const auto spaces = [&] {
    while (at < line.size() && is_space(line[at])) ++at;
  };
  for (spaces(); at < line.size(); spaces()) {
    const size_t start = at;
    while (at < line.size() && !is_space(line[at]) && line[at] != '=') ++at;
    const std::string key = line.substr(start, at - start);
    spaces();
    std::string value;
    if (at < line.size() && line[at] == '=') {
      ++at;
      spaces();
      if (at < line.size() && (line[at] == '{' || line[at] == '"' || line[at] == '\'')) {
        const char open = line[at], close = open == '{' ? '}' : open;
        int depth = 0;
        for (; at < line.size(); ++at) {
          if (line[at] == close && (open != '{' || depth == 1) && !(open != '{' && depth == 0))
            break;
          if (line[at] == open) {
            ++depth;
            continue;
          }
          if (line[at] == '}') --depth;
          value += line[at];
        }
        if (at >= line.size()) throw NotCovered("has a descriptor with an open bracket");
        ++at;
      } else {
        const size_t first = at;
        while (at < line.size() && !is_space(line[at])) ++at;
        value = line.substr(first, at - first);
      }
    }
    found.emplace_back(key, value);
  }
  return found;
}

/// The words of a line after its first, and which of them somebody has asked for.
class Words {
 public:
  Words(const std::string &path, const std::string &line) : path_(path)
  {
    auto pairs = options(line);
    for (size_t k = 1; k < pairs.size(); k++) {
      auto &[key, value] = pairs[k];
      if (key == "atom_gaussian_width") key = "atom_sigma";
      if (key == "normalize") key = "normalise";
      if (value.empty()) throw NotCovered("has the word " + key + " in a descriptor");
      if (!given_.emplace(key, value).second)
        throw NotCovered("has " + key + " twice in a descriptor");
    }
  }

  bool has(const char *name) const { return given_.count(name); }

  /// Nothing else may be there: it could mean another potential.
  void end() const
  {
    for (const auto &[key, value] : given_)
      if (!seen_.count(key) && !FITTING_WORDS.count(key))
        throw NotCovered("has the unknown word " + key + " in a descriptor");
  }

  const std::string *find(const char *name)
  {
    seen_.insert(name);
    const auto found = given_.find(name);
    return found == given_.end() ? nullptr : &found->second;
  }

  double real(const char *name, double otherwise)
  {
    const std::string *text = find(name);
    if (!text && std::isnan(otherwise))
      throw NotCovered(std::string("has a descriptor without ") + name);
    return text ? number(path_, name, *text) : otherwise;
  }

  int whole(const char *name)
  {
    const double value = real(name, std::nan(""));
    if (value != std::floor(value) || std::abs(value) > 1e6)
      throw NotCovered(std::string("has a descriptor whose ") + name + " is no whole number");
    return static_cast<int>(value);
  }

  bool flag(const char *name, bool otherwise)
  {
    const std::string *text = find(name);
    if (!text) return otherwise;
    if (*text == "T") return true;
    if (*text == "F") return false;
    throw NotCovered(std::string("has a descriptor with ") + name + '=' + *text);
  }

  void must(const char *name, const char *value)
  {
    const std::string *text = find(name);
    if (text && *text != value)
      throw NotCovered(std::string("has a descriptor with ") + name + '=' + *text);
  }

  /// Atomic numbers, `n` of them, or ANY_ELEMENT; none given: all are that.
  std::vector<int> elements(const char *name, int n)
  {
    std::vector<int> found;
    if (const std::string *text = find(name))
      for (const std::string &word : words(*text)) {
        const double z = number(path_, name, word);
        if (z != std::floor(z) || z < 0 || z > MAX_ELEMENTS)
          throw NotCovered(std::string("has a descriptor with ") + name + '=' + *text);
        found.push_back(static_cast<int>(z));
      }
    else
      found.assign(n, ANY_ELEMENT);
    if (static_cast<int>(found.size()) != n)
      throw NotCovered(std::string("has a descriptor whose ") + name + " does not list " +
                       std::to_string(n) + (n == 1 ? " element" : " elements"));
    return found;
  }

  int element(const char *name) { return elements(name, 1).front(); }

  /// Elements of which none is there twice, and a wild card alone.
  std::vector<int> different_elements(const char *name, int n)
  {
    std::vector<int> found = elements(name, n);
    for (int z : found)
      if (std::count(found.begin(), found.end(), z) > 1 || (z == ANY_ELEMENT && n > 1))
        throw NotCovered(std::string("has a descriptor with an element twice in ") + name);
    return found;
  }

  void read_cutoff(GapTerm &term)
  {
    term.cutoff = real("cutoff", std::nan(""));
    term.transition_width = real("cutoff_transition_width", 0.5);
    if (!(term.cutoff > 0) || !(term.transition_width > 0) || term.transition_width > term.cutoff)
      throw NotCovered("has a descriptor with a cutoff or width that is not positive");
  }

 private:
  std::string path_;
  std::map<std::string, std::string> given_;
  std::set<std::string> seen_;
};

}    // namespace

std::vector<std::string> words(std::string_view text)
{
  std::vector<std::string> found;
  size_t at = 0;
  while (at < text.size()) {
    while (at < text.size() && is_space(text[at])) ++at;
    const size_t start = at;
    while (at < text.size() && !is_space(text[at])) ++at;
    if (at > start) found.emplace_back(text.substr(start, at - start));
  }
  return found;
}

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
