#include "gap_words.h"

#include <algorithm>
#include <cmath>

#include "xml_reader.h"

namespace mlsel {
namespace {

/// gap_fit's words in a descriptor's line: they say nothing to a finished potential.
// clang-format off
const std::set<std::string> FITTING_WORDS = {
    "delta", "zeta", "n_sparse", "covariance_type", "sparse_method", "add_species", "f0",
    "config_type_n_sparse", "config_type_sigma", "theta_uniform", "theta_fac", "theta_file",
    "unique_hash_tolerance", "unique_descriptor_tolerance", "sparse_file", "mark_sparse_atoms",
    "print_sparse_index", "cutoff_scale", "cutoff_rate", "K", "mix_shift"};
// clang-format on

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

Words::Words(const std::string &path, const std::string &line) : path_(path)
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

void Words::end() const
{
  for (const auto &[key, value] : given_)
    if (!seen_.count(key) && !FITTING_WORDS.count(key))
      throw NotCovered("has the unknown word " + key + " in a descriptor");
}

const std::string *Words::find(const char *name)
{
  seen_.insert(name);
  const auto found = given_.find(name);
  return found == given_.end() ? nullptr : &found->second;
}

double Words::real(const char *name, double otherwise)
{
  const std::string *text = find(name);
  if (!text && std::isnan(otherwise))
    throw NotCovered(std::string("has a descriptor without ") + name);
  return text ? number(path_, name, *text) : otherwise;
}

int Words::whole(const char *name)
{
  const double value = real(name, std::nan(""));
  if (value != std::floor(value) || std::abs(value) > 1e6)
    throw NotCovered(std::string("has a descriptor whose ") + name + " is no whole number");
  return static_cast<int>(value);
}

bool Words::flag(const char *name, bool otherwise)
{
  const std::string *text = find(name);
  if (!text) return otherwise;
  if (*text == "T") return true;
  if (*text == "F") return false;
  throw NotCovered(std::string("has a descriptor with ") + name + '=' + *text);
}

void Words::must(const char *name, const char *value)
{
  const std::string *text = find(name);
  if (text && *text != value)
    throw NotCovered(std::string("has a descriptor with ") + name + '=' + *text);
}

std::vector<int> Words::elements(const char *name, int n)
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

std::vector<double> Words::reals(const char *name, int n, double least, double most,
                                 double otherwise)
{
  std::vector<double> found;
  const std::string *text = find(name);
  if (!text && std::isnan(otherwise))
    throw NotCovered(std::string("has a descriptor without ") + name);
  if (text)
    for (const std::string &word : words(*text)) found.push_back(number(path_, name, word));
  else
    found.push_back(otherwise);
  if (found.size() == 1) found.assign(n, found.front());
  if (static_cast<int>(found.size()) != n)
    throw NotCovered(std::string("has a descriptor whose ") + name + " lists " +
                     std::to_string(found.size()) + " numbers for " + std::to_string(n) +
                     " species");
  for (const double one : found)
    if (!(one >= least && one <= most))
      throw NotCovered(std::string("has a descriptor with ") + name + '=' +
                       (text ? *text : std::to_string(one)));
  return found;
}

std::vector<int> Words::different_elements(const char *name, int n)
{
  std::vector<int> found = elements(name, n);
  for (int z : found)
    if (std::count(found.begin(), found.end(), z) > 1 || (z == ANY_ELEMENT && n > 1))
      throw NotCovered(std::string("has a descriptor with an element twice in ") + name);
  return found;
}

void Words::read_cutoff(GapTerm &term)
{
  term.cutoff = real("cutoff", std::nan(""));
  term.transition_width = real("cutoff_transition_width", 0.5);
  if (!(term.cutoff > 0) || !(term.transition_width > 0) || term.transition_width > term.cutoff)
    throw NotCovered("has a descriptor with a cutoff or width that is not positive");
}

}    // namespace mlsel
