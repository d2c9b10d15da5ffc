// The network that an address leads to.
import { expect, test } from "vitest";
import { prefixOf } from "./ValueMenu";

test("the network of an address is its /24 or its /64", () => {
  expect(prefixOf("::ffff:192.0.2.77")).toBe("192.0.2.0/24");
  expect(prefixOf("2001:db8:1:2:3:4:5:6")).toBe("2001:db8:1:2::/64");
  expect(prefixOf("2001:db8::1")).toBe("2001:db8::/64");
  expect(prefixOf("::1")).toBe("::/64");
  expect(prefixOf("shop.example")).toBeNull();
});
