#include <algorithm>
#include <cmath>
#include <numeric>
#include <sstream>

#include "files.h"
#include "gap_descriptor.h"
#include "gap_kernel.h"
#include "gap_words.h"
#include "xml_reader.h"

namespace mlsel {
namespace {

// Gaussians that tables hold: widths in Å, and in cutoffs.
constexpr double NARROWEST = 0.02, NARROWEST_OF_CUTOFF = 0.005, WIDEST = 1000;
constexpr int MAX_N = 8;    // QUIP's own functions are orthonormal to 1e-4 then
constexpr double MAX_FACTOR = 1000;

/// soap_turbo's compress_file, beside the GAP: alpha_max of each
/// species, l_max and a number; then P_transformation, lines of to, from and factor, and
/// end_transformation; or as many lines as that number, of what is kept.
void read_transformation(const std::string &path, SoapTerm &term)
{
  std::vector<std::vector<std::string>> lines;
  std::istringstream text(read_whole(path));
  for (std::string line; std::getline(text, line);) lines.push_back(words(line));
  const size_t n_species = term.species.size();
  const auto value = [&](size_t line, size_t k) {
    if (line >= lines.size() || k >= lines[line].size())
      fail(path,
           "has no " + std::to_string(k + 1) + ". number in line " + std::to_string(line + 1));
    return number(path, "line " + std::to_string(line + 1), lines[line][k]);
  };
  for (size_t s = 0; s <= n_species; s++)
    if (const int here = s < n_species ? term.turbo.n_max[s] : term.l_max; value(0, s) != here)
      throw NotCovered("has a soap_turbo of alpha_max or l_max " + std::to_string(here) + ", and " +
                       path + " is of " + lines[0][s]);
  const int n_channels = std::accumulate(term.turbo.n_max.begin(), term.turbo.n_max.end(), 0);
  const int n_all = n_channels * (n_channels + 1) / 2 * (term.l_max + 1);
  const auto place = [&](size_t line, size_t k) {
    const double one = value(line, k);
    if (one != std::floor(one) || one < 1 || one > n_all)
      fail(path,
           "has " + lines[line][k] + " in line " + std::to_string(line + 1) +
               ", which is none of " + std::to_string(n_all) + " numbers");
    return one - 1;
  };
  const bool is_general =
      lines.size() > 1 && lines[1] == std::vector<std::string>{"P_transformation"};
  const size_t first = is_general ? 2 : 1;
  const double n = is_general ? n_all : value(0, n_species + 1);
  const std::vector<std::string> end{"end_transformation"};
  for (size_t k = first; is_general ? k >= lines.size() || lines[k] != end : k < first + n; k++)
    if (is_general)
      term.transformation.insert(term.transformation.end(),
                                 {place(k, 0), place(k, 1), value(k, 2)});
    else
      term.transformation.insert(term.transformation.end(),
                                 {static_cast<double>(k - first), place(k, 0), 1.0});
  if (term.transformation.empty()) fail(path, "keeps nothing of a soap_turbo");
}

/// soap_turbo's compress_mode: trivial, or nu_R and nu_S with a _ between.
void read_compression(const std::string &path, Words &words, SoapTerm &term)
{
  const std::string *mode = words.find("compress_mode"), *file = words.find("compress_file");
  if (file && *file != "None") {    // whatever the mode
    read_transformation(beside(path, *file), term);
    return;
  }
  if (!mode || *mode == "None") return;
  term.is_trivial = *mode == "trivial" || *mode == "Trivial";
  if (term.is_trivial) return;
  const auto is_order = [](char c) { return c >= '0' && c <= '2'; };
  if (mode->size() != 3 || (*mode)[1] != '_' || !is_order(mode->front()) || !is_order(mode->back()))
    throw NotCovered("has a soap_turbo with compress_mode=" + *mode);
  term.nu_r = mode->front() - '0';
  term.nu_s = mode->back() - '0';
  for (const int one : term.turbo.n_max)
    if (one != term.n_max)
      throw NotCovered("has a soap_turbo with compress_mode=" + *mode + " and different alpha_max");
}

}    // namespace

SoapTerm read_turbo(const std::string &path, const std::string &line)
{
  Words words(path, line);
  SoapTerm term;
  TurboDensity &turbo = term.turbo;
  term.has_two_l_plus_one = false;
  const double missing = std::nan("");
  const bool has_hard = words.has("rcut_hard"), has_soft = words.has("rcut_soft");
  term.cutoff = words.real(has_hard ? "rcut_hard" : "cutoff", missing);
  term.transition_width = has_soft ? term.cutoff - words.real("rcut_soft", missing)
                                   : words.real("cutoff_transition_width", 0.5);
  turbo.filter_sharpness = words.real("nf", 4);
  const double narrowest = std::max(NARROWEST, NARROWEST_OF_CUTOFF * term.cutoff);
  if (!(term.transition_width / turbo.filter_sharpness >= narrowest) ||
      !(turbo.filter_sharpness >= 1) || !(term.transition_width < term.cutoff))
    throw NotCovered("has a soap_turbo with rcut_hard=" + std::to_string(term.cutoff) +
                     ", rcut_soft=" + std::to_string(term.cutoff - term.transition_width) +
                     " and nf=" + std::to_string(turbo.filter_sharpness));

  const int n = words.has("n_species") ? words.whole("n_species") : 1;
  term.species = words.different_elements("species_Z", n);
  const int centre = words.has("central_index") ? words.whole("central_index") : 1;
  if (!words.has("species_Z") || term.species.front() == ANY_ELEMENT || centre < 1 || centre > n)
    throw NotCovered("has a soap_turbo with central_index=" + std::to_string(centre) + " of " +
                     std::to_string(n) + " species");
  term.centres = {term.species[centre - 1]};

  // a scalar for all species, of the name that soap has, where the list is not there
  const auto either = [&words](const char *list, const char *scalar) {
    words.find(list);
    words.find(scalar);
    return words.has(list) || !words.has(scalar) ? list : scalar;
  };
  const std::string *basis = words.find("basis");
  turbo.basis =
      basis && *basis == "poly3gauss" ? TurboDensity::with_gaussian : TurboDensity::polynomials;
  if (basis && *basis != "poly3" && *basis != "poly3gauss")
    throw NotCovered("has a soap_turbo with basis=" + *basis);
  for (const double one :
       words.reals(either("alpha_max", "n_max"), n, 1 + turbo.basis, MAX_N, missing)) {
    if (one != std::floor(one)) throw NotCovered("has alpha_max that is no whole number");
    turbo.n_max.push_back(static_cast<int>(one));
  }
  term.n_max = *std::max_element(turbo.n_max.begin(), turbo.n_max.end());
  term.l_max = words.whole("l_max");
  if (term.l_max < 0 || term.l_max > GAP_MAX_L)
    throw NotCovered("has l_max=" + std::to_string(term.l_max) + " (up to " +
                     std::to_string(GAP_MAX_L) + " is covered)");

  const auto widths = [&](const char *list) {
    return words.reals(either(list, "atom_sigma"), n, narrowest, WIDEST, missing);
  };
  const auto scalings = [&](const char *list) {
    return words.reals(either(list, "atom_sigma_scaling"), n, 0, MAX_FACTOR, 0);
  };
  turbo.along = widths("atom_sigma_r");
  turbo.across = widths("atom_sigma_t");
  turbo.along_scaling = scalings("atom_sigma_r_scaling");
  turbo.across_scaling = scalings("atom_sigma_t_scaling");
  turbo.amplitude_scaling = words.reals("amplitude_scaling", n, 0, MAX_FACTOR, 1);
  turbo.central_weight = words.reals("central_weight", n, 0, MAX_FACTOR, 1);
  if (n == 1 && turbo.central_weight.front() != 1)
    throw NotCovered("has a soap_turbo of one species with central_weight=" +
                     std::to_string(turbo.central_weight.front()) +
                     ", which versions of QUIP before 2026 take for 1");
  turbo.radial_enhancement =
      words.has("radial_enhancement") ? words.whole("radial_enhancement") : 0;
  if (turbo.radial_enhancement < 0 || turbo.radial_enhancement > 2)
    throw NotCovered("has a soap_turbo with radial_enhancement=" +
                     std::to_string(turbo.radial_enhancement));
  words.must("scaling_mode", "polynomial");
  read_compression(path, words, term);
  words.end();
  return term;
}

}    // namespace mlsel
