// The pages of the settings, loaded together.
export { AboutPage } from "./About";
export { Account } from "./Account";
export { Audit } from "./Audit";
export { Certificates } from "./Certificates";
export { Groups } from "./Groups";
export { Identity } from "./Identity";
export { Notifications } from "./Notifications";
export { Roles } from "./Roles";
export { Settings } from "./Settings";
export { Users } from "./Users";
