package org.hilum.hapi;

import com.fasterxml.jackson.databind.JsonNode;
import java.util.ArrayList;
import java.util.List;
import java.util.Set;

/**
 * One rule of a grant: which interactions on which resources.
 *
 * @param types resource types; empty means every type
 * @param letters of `cruds`
 * @param patient id of the Patient in whose compartment a resource must be; null: in any
 * @param filter search query that a resource must satisfy, such as `category=x`; null: none
 * @param refersBy elements of the resource: one of them must refer to a resource that another rule covers
 * @param referredBy reference parameters such as `ImagingStudy:endpoint`: a resource that another rule
 *     covers must refer to this one by one of them
 */
record Rule(
    Set<String> types,
    String letters,
    String patient,
    String filter,
    List<String> refersBy,
    List<String> referredBy) {

  static Rule of(JsonNode node) {
    return new Rule(
        Set.copyOf(texts(node.get("t"))),
        node.path("i").asText(),
        text(node.get("p")),
        text(node.get("f")),
        texts(node.get("out")),
        texts(node.get("in")));
  }

  /** Whether it speaks of this type and one of these letters, all else left aside. */
  boolean names(String type, String anyOf) {
    return (types.isEmpty() || types.contains(type)) && anyOf.chars().anyMatch(one -> letters.indexOf(one) >= 0);
  }

  /** Whether it goes by references to or from what other rules cover. */
  boolean byReference() {
    return !refersBy.isEmpty() || !referredBy.isEmpty();
  }

  /** Whether it covers each resource of its types. */
  boolean unlimited() {
    return patient == null && filter == null && !byReference();
  }

  private static String text(JsonNode node) {
    return node == null || node.isNull() ? null : node.asText();
  }

  private static List<String> texts(JsonNode node) {
    var found = new ArrayList<String>();
    if (node != null) {
      node.forEach(one -> found.add(one.asText()));
    }
    return List.copyOf(found);
  }
}
